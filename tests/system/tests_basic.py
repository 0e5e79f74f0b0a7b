# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an administrator sees on a good day: install, enable, mail comes in, mail goes out, the journal tells."""

import json
import os
import stat

import peers
from checks import check, check_equal, test, wait_for

SMTPD = "emailrelay-smtp.service"
FORWARD = "emailrelay-forward.service"
CONFIG = "/etc/emailrelay/emailrelay.conf"
SPOOL = "/var/spool/emailrelay"

ACCEPTED = "e1a0abeee3ef40afabe468795b549599"
DELIVERED = "d56cf9834227457e8e0c840d829e0c50"


def configure(world, *lines):
    """The main option file: these lines, and mail goes to Postfix."""
    text = "".join(line + "\n" for line in lines)
    world.container.write(CONFIG, f"domain = relay.example\nforward-to = 127.0.0.1:{peers.POSTFIX_PORT}\n" + text)


def listening(world, port):
    out = world.container.run("ss", "--no-header", "-ltn", f"sport = :{port}").stdout
    return bool(out.strip())


def queue(world, spool=SPOOL):
    """Ids of the messages that are in a spool."""
    return [name[:-len(".content")] for name in world.container.list(spool) if name.endswith(".content")]


def journal(world, *matches):
    """Records of the journal as dictionaries."""
    container = world.container
    container.run("journalctl", "--sync", check=False)
    out = container.run("journalctl", "-o", "json", "--no-pager", *matches).stdout
    return [json.loads(line) for line in out.splitlines()]


@test("directories and account are made")
def _(world):
    container = world.container
    uid, gid = (int(container.run("id", flag, "emailrelay").stdout) for flag in ("-u", "-g"))
    for path, owner, mode in ((SPOOL, (uid, gid), 0o2770), ("/run/emailrelay", (0, 0), 0o755),
                              ("/run/emailrelay/control", (uid, gid), 0o770),
                              ("/run/emailrelay/counters", (uid, gid), 0o750)):
        status = os.stat(container.path(path))
        check_equal(path, ((status.st_uid, status.st_gid), oct(stat.S_IMODE(status.st_mode))), (owner, oct(mode)))


@test("systemd-analyze verify has nothing to say")
def _(world):
    directory = "/usr/lib/systemd/system"
    units = [f"{directory}/{name}" for name in world.container.list(directory) if name.startswith("emailrelay")]
    result = world.container.run("systemd-analyze", "verify", "--man=no", *units, check=False)
    complaints = [line for line in (result.stdout + result.stderr).splitlines() if "emailrelay" in line]
    check_equal("complaints", complaints, [])


@test("exposure is below what the cages promise")
def _(world):
    for unit, tenths in ((SMTPD, 4), (FORWARD, 14), ("emailrelay-smtp@x.service", 4),
                         ("emailrelay-forward@x.service", 14)):
        result = world.container.run("systemd-analyze", "security", f"--threshold={tenths}", unit, check=False)
        check(result.returncode == 0, f"{unit}: {result.stdout.strip().splitlines()[-1:]}")


@test("nothing is enabled by the installation")
def _(world):
    container = world.container
    container.run("systemctl", "preset-all", check=False)
    out = container.run("systemctl", "list-unit-files", "--no-legend", "emailrelay*").stdout
    for line in out.splitlines():
        unit, state = line.split()[:2]
        check(state in ("disabled", "static", "indirect"), f"{unit} is {state}")
    check("emailrelay-smtp.socket" in out, "the units are not there")


@test("sockets and timer are enabled, and no process runs before the first connection")
def _(world):
    container = world.container
    configure(world, "idle-exit = 30s")
    container.systemctl("enable", "--now", "emailrelay-smtp.socket", "emailrelay-forward.timer")
    check_equal("the socket", container.show("emailrelay-smtp.socket", "SubState"), "listening")
    check_equal("the timer", container.show("emailrelay-forward.timer", "ActiveState"), "active")
    check_equal("the timer's socket", container.show("emailrelay-forward.socket", "ActiveState"), "active")
    check_equal("the service", container.show(SMTPD, "ActiveState"), "inactive")
    check_equal("the service's process", container.pid(SMTPD), 0)
    check_equal("processes", container.run("pgrep", "-x", "emailrelay-smtp", check=False).stdout, "")
    check(listening(world, 25), "port 25 is closed")
    check(not listening(world, 587), "port 587 is open although nobody enabled it")


@test("the first connection starts the server, over IPv4 and IPv6")
def _(world):
    peers.send(25, "first-v4")
    peers.send(25, "first-v6", host="::1")
    check_equal("the service", world.container.show(SMTPD, "ActiveState"), "active")
    check(not listening(world, 587), "port 587 has been opened along with port 25")
    world.postfix.wait_for("first-v4")
    world.postfix.wait_for("first-v6")


@test("further sockets are enabled while the service runs, and port 25 stays open")
def _(world):
    container = world.container
    peers.send(25, "starts-the-service.")
    check(container.pid(SMTPD) > 0, "the service does not run")
    for socket in ("emailrelay-submission.socket", "emailrelay-submit.socket"):
        with peers.Load(25, 2) as load:
            load.wait_for_more()
            container.systemctl("enable", socket)
            container.systemctl("restart", socket)
            load.wait_for_more()
            load.finish()
        check_equal(socket, container.show(socket, "ActiveState"), "active")
    peers.send(587, "by-submission")
    world.postfix.wait_for("by-submission")


@test("descriptors have their names")
def _(world):
    container = world.container
    for name, unit in (("smtp", "smtp"), ("submission", "submission"), ("submit", "submit"), ("forward", "forward")):
        check_equal(unit, container.show(f"emailrelay-{unit}.socket", "FileDescriptorName"), name)
    environment = container.read(f"/proc/{container.pid(SMTPD)}/environ").split("\0")
    names = [word[len("LISTEN_FDNAMES="):] for word in environment if word.startswith("LISTEN_FDNAMES=")]
    check_equal("names the service got", [sorted(text.split(":")) for text in names],
                [["smtp", "submission", "submit"]])
    status = container.run("emailrelayctl", "status").stdout
    for name in ("smtp", "submission", "submit"):
        check(f"{name} " in status, f"{name} is missing in: {status}")


@test("swaks hands mail in")
def _(world):
    world.container.run("swaks", "--server", "127.0.0.1:25", "--from", "alice@example.org", "--to", "bob@example.com",
                        "--header", "Subject: by-swaks.", "--silent", "2")
    world.postfix.wait_for("by-swaks.")


@test("curl hands mail in")
def _(world):
    world.container.run("curl", "--silent", "--show-error", "--url", "smtp://127.0.0.1:25", "--mail-from",
                        "alice@example.org", "--mail-rcpt", "bob@example.com", "--upload-file", "-",
                        input=peers.message("by-curl.", 5000))
    world.postfix.wait_for("by-curl.")


@test("Python's smtplib hands mail in")
def _(world):
    peers.send(25, "by-smtplib.")
    world.postfix.wait_for("by-smtplib.")


@test("emailrelay-submit hands mail in, for an ordinary user")
def _(world):
    world.container.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "emailrelay-submit",
                        "--from", "alice@example.org", "bob@example.com", input=peers.message("by-submit."))
    world.postfix.wait_for("by-submit.")


@test("the timer forwards what nobody announced")
def _(world):
    container = world.container
    container.drop_in("emailrelay-forward.timer", "[Timer]\nOnBootSec=\nOnUnitInactiveSec=\nOnActiveSec=2s\n")
    container.systemctl("stop", "emailrelay-forward.timer")
    check_equal("the forwarder after its timer was stopped", container.show(FORWARD, "ActiveState"), "inactive")
    peers.send(25, "by-timer.")
    check_equal("messages in the spool", len(queue(world)), 1)
    check("by-timer." not in world.postfix.mailbox(), "forwarded without a timer")
    container.systemctl("start", "emailrelay-forward.timer")
    world.postfix.wait_for("by-timer.")
    wait_for("the spool is empty", lambda: not queue(world))
    container.drop_in("emailrelay-forward.timer", None)
    container.systemctl("restart", "emailrelay-forward.timer")


@test("mail goes out to smtp-sink")
def _(world):
    container = world.container
    configure(world, "idle-exit = 30s", f"forward-to = 127.0.0.1:{peers.SINK_PORT}")
    try:
        container.systemctl("start", FORWARD)
        container.systemctl("reload", FORWARD)
        peers.send(25, "to-the-sink.")
        world.sink.wait_for("to-the-sink.")
        wait_for("the spool is empty", lambda: not queue(world))
    finally:
        configure(world, "idle-exit = 30s")
        container.systemctl("restart", FORWARD)


@test("the journal tells a message's story, with fields and catalog")
def _(world):
    msgid = peers.queue_id(peers.send(25, "in-the-journal."))
    world.postfix.wait_for("in-the-journal.")
    match = f"EMAILRELAY_MSGID={msgid}"
    records = wait_for("the journal has both events", lambda: [
        found for found in [journal(world, match)]
        if {ACCEPTED, DELIVERED} <= {record.get("MESSAGE_ID") for record in found}])[0]
    accepted = next(record for record in records if record.get("MESSAGE_ID") == ACCEPTED)
    check_equal("unit", accepted["_SYSTEMD_UNIT"], SMTPD)
    check_equal("sender", accepted["EMAILRELAY_FROM"], "alice@example.org")
    check_equal("recipients", accepted["EMAILRELAY_RECIPIENTS"], "1")
    check("127.0.0.1" in accepted["EMAILRELAY_CLIENT"], f"client: {accepted['EMAILRELAY_CLIENT']}")
    delivered = next(record for record in records if record.get("MESSAGE_ID") == DELIVERED)
    check_equal("unit", delivered["_SYSTEMD_UNIT"], FORWARD)
    check(str(peers.POSTFIX_PORT) in delivered["EMAILRELAY_NEXT_HOP"], f"next hop: {delivered['EMAILRELAY_NEXT_HOP']}")
    text = world.container.run("journalctl", "-x", "--no-pager", match).stdout
    for subject in (f"Subject: Message {msgid} has been accepted", f"Subject: Message {msgid} has been delivered"):
        check(subject in text, f"journalctl -x does not say {subject!r}")


@test("systemctl status says what the server is doing")
def _(world):
    wait_for("a true sentence", lambda: "accepted" in world.container.show(SMTPD, "StatusText"))


@test("configuration files are shown by systemd-analyze cat-config")
def _(world):
    out = world.container.run("systemd-analyze", "cat-config", "emailrelay/emailrelay.conf").stdout
    for word in ("# /etc/emailrelay/emailrelay.conf", "emailrelay.conf.d/10-defaults.conf", "retry = 1min,1h,5d"):
        check(word in out, f"{word} is missing")
