/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* emailrelayctl: what administrators ask of the set, and what its reload units call.
 *
 *   main.c      the command line, the verbs
 *   list.c      list: the queue, message by message; list.h has its parts
 *   status.c    status: the programs, and the queue in numbers
 *   reload.c    reload: the configuration read anew
 *   forward.c   forward: look for mail to forward now, or forward certain messages
 *   programs.c  which programs there are, calling their control sockets
 *   show.c      text from outside, for people and for JSON
 *
 * Nothing here starts a program, except forward, which is what it is for. list and the queue part of status
 * read the spool directory themselves and need no program at all. */

#include <jansson.h>
#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "config/config.h"

enum {
        CTL_OK = 0,
        CTL_FAILED = 1,
        CTL_USAGE = 2,
        CTL_NOT_RUNNING = 3,
};

typedef struct Ctl {
        Config *config;
        const char *spool_dir, *runtime_dir; /* of the config */
        bool json, all;
        int n_arguments; /* what stands behind the verb */
        char **arguments;
} Ctl;

/* The verbs. All return an exit status, after saying on stderr what went wrong. */
int ctl_list(const Ctl *ctl);
int ctl_status(const Ctl *ctl);
int ctl_reload(const Ctl *ctl);
int ctl_forward(const Ctl *ctl);

/* Says "emailrelayctl: …" on stderr and returns the status. */
int ctl_fail(int status, const char *format, ...) _printf_(2, 3);

/* Says on stderr what is wrong in the option files, line by line. */
void ctl_print_errors(const Config *config);

/* What was written to stdout has arrived there, or the status says so. */
int ctl_flush(int status);

/* ── programs.c ───────────────────────────────────────────────────────────────────────────── */

/* The programs that have a control socket, NULL at the end. */
extern const char *const ctl_programs[];

/* Calls a method without arguments of a program's control interface. 1 with the reply; 0: the program does not run; negative
 * errno with a sentence in ret_why (the caller frees; NULL when memory is short). */
int ctl_call(const Ctl *ctl, const char *program, const char *method, sd_bus_message **ret_reply,
                char **ret_why);

/* ── show.c ───────────────────────────────────────────────────────────────────────────────── */

/* Text that may come from a peer as it can be printed: UTF-8 stays, control characters and what is not
 * UTF-8 are \xnn. The caller frees; NULL when memory is short. */
char *show_text(const char *text);

/* The columns that text takes on a terminal: one for each character. */
size_t show_width(const char *text);

/* The octets of the text's first `columns` characters. */
size_t show_cut(const char *text, size_t columns);

/* The same text as a JSON string; null for NULL. */
json_t *show_json(const char *text);

/* Writes one JSON value and a line end to stdout. */
int show_json_dump(json_t *value);
