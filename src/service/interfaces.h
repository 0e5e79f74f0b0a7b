/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How the programs of the set talk to each other: sd-bus, peer to peer, over unix sockets in the runtime
 * directory. DESIGN section 5. What crosses is an id, a name, a state: every program reads the same option files
 * itself.
 *
 *   RUNTIME/forward            org.emailrelay.Forward1 at /org/emailrelay/Forward (socket-activated)
 *     Wake(s trigger)             look for mail to forward now. Triggers: "client disconnect", "admin",
 *                                 "poll", "startup", "rescan": for the log; and "admin" tries a next hop anew that
 *                                 is left alone after a failure. Answers when noted.
 *     Send(s id) → (u code, s text)
 *                                 forward this message before others; answers when it is settled:
 *                                 250 delivered (at least in part), 4xx or 5xx refused with the next hop's text and not
 *                                 tried again, 0 still queued, text says why.
 *
 *   RUNTIME/control/PROGRAM    org.emailrelay.Control1 at /org/emailrelay/Control (never activates anything)
 *     Status() → a{ss}            what the program says of itself, in words
 *     Reload()                    read the configuration anew; fails with ConfigRefused and all its errors, and then
 *                                 the old one stays in force
 *     Stop()                      as SIGTERM
 *
 *   RUNTIME/pam                no bus: one line in, one line out, one process per question; auth/pam-line.h has the words
 *
 * Settled, and served by no program yet:
 *
 *   Forward1.Flush(as ids)     a signal Settled(s id, u code, s text) to the caller as each is settled
 *   Control1.Set(s name, s value)
 *                              what admin commands switch while a program runs; signals Event(as words) to peers that
 *                              have called Subscribe()
 *   RUNTIME/filter             org.emailrelay.Filter1 at /org/emailrelay/Filter (socket-activated)
 *     Verify(s recipient, s sender, s client, s domain, s mechanism, s identity)
 *                  → (b local, s address, s name)
 *     Run(s chain, s id, s state) → (u verdict, s public, s private)
 *                                once per message for the whole chain; state is "new" or "busy"
 *     Blocked(s address) → (b blocked, as lists)
 *
 * Errors carry an SMTP code, a blank and the public text; after a line end the private one. Temporary is 4xx, Permanent 5xx;
 * Unknown is a message or name that is not there.
 *
 * A peer that vanishes in mid-call is trouble of the temporary kind. */

#define BUS_FORWARD_SOCKET    "forward"
#define BUS_FORWARD_PATH      "/org/emailrelay/Forward"
#define BUS_FORWARD_INTERFACE "org.emailrelay.Forward1"

#define SOCKET_PAM "pam"

#define BUS_CONTROL_DIRECTORY "control"
#define BUS_CONTROL_PATH      "/org/emailrelay/Control"
#define BUS_CONTROL_INTERFACE "org.emailrelay.Control1"

#define BUS_ERROR_TEMPORARY      "org.emailrelay.Error.Temporary"
#define BUS_ERROR_PERMANENT      "org.emailrelay.Error.Permanent"
#define BUS_ERROR_UNKNOWN        "org.emailrelay.Error.Unknown"
#define BUS_ERROR_CONFIG_REFUSED "org.emailrelay.Error.ConfigRefused"

/* Names of the descriptors that sockets are passed under (FileDescriptorName= of the socket units,
 * and --interface=NAME=fd#N without systemd). */
#define DESCRIPTOR_SMTP       "smtp"
#define DESCRIPTOR_SUBMISSION "submission"
#define DESCRIPTOR_SMTPS      "smtps"
#define DESCRIPTOR_SUBMIT     "submit"
#define DESCRIPTOR_POP        "pop"
#define DESCRIPTOR_POPS       "pops"
#define DESCRIPTOR_FORWARD    "forward"
