# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an administrator changes while mail flows: reload, restart, ports, instances."""

import contextlib
import smtplib
import socket

import peers
from checks import check, check_equal, test, wait_for
from tests_basic import CONFIG, FORWARD, SMTPD, SPOOL, configure, journal, listening, queue

@contextlib.contextmanager
def configuration(world, *lines):
    """Other option files for a while. Whatever happens, the next test finds the usual ones in force."""
    try:
        configure(world, *lines)
        yield
    finally:
        configure(world, "idle-exit = 30s")
        world.container.systemctl("reload-or-restart", SMTPD, FORWARD, check=False)


@contextlib.contextmanager
def no_forwarding(world):
    """What is accepted stays in the spool, where it can be counted."""
    world.container.systemctl("stop", "emailrelay-forward.timer")
    try:
        yield
    finally:
        world.container.systemctl("start", "emailrelay-forward.timer")


def markers_in_spool(world):
    """Subjects of all messages of the spool, each as often as it is there."""
    markers = []
    for name in queue(world):
        text = world.container.read(f"{SPOOL}/{name}.content")
        markers += [line[len("Subject: "):].strip() for line in text.splitlines() if line.startswith("Subject: ")]
    return markers


def under_load(world, action, times):
    """Does something again and again while clients hand mail in: every message that got its 250 is there once, and
    no other."""
    with no_forwarding(world):
        before = markers_in_spool(world)
        with peers.Load(25, 6) as load:
            load.wait_for_more()
            for _ in range(times):
                action()
                load.wait_for_more()
            acknowledged = load.finish()
        found = markers_in_spool(world)
        left = [name for name in world.container.list(SPOOL) if name.endswith(".new")]
    for marker in before:
        found.remove(marker)
    check_equal("messages that are in the spool more than once", len(found) - len(set(found)), 0)
    check_equal("acknowledged and lost", acknowledged - set(found), set())
    check_equal("not acknowledged and kept", set(found) - acknowledged, set())
    check(load.n_returns <= times * 6 + 6, f"clients had to come back {load.n_returns} times")
    check_equal("unfinished files", left, [])
    wait_for("the spool is empty", lambda: not queue(world), 60)


@test("reload under load loses and refuses nothing")
def _(world):
    peers.send(25, "before-the-reloads.")
    pid = world.container.pid(SMTPD)
    under_load(world, lambda: world.container.systemctl("reload", SMTPD), 5)
    check_equal("the process", world.container.pid(SMTPD), pid)


@test("restart under load loses and refuses nothing")
def _(world):
    under_load(world, lambda: world.container.systemctl("restart", SMTPD), 5)


@test("restart of the forwarder under load delivers everything once")
def _(world):
    container = world.container
    with peers.Load(25, 2) as load:
        for _ in range(4):
            load.wait_for_more()
            container.systemctl("restart", FORWARD)
        acknowledged = load.finish()
    wait_for("the spool is empty", lambda: not queue(world), 60)
    arrived = wait_for("Postfix has everything", lambda: [
        subjects for subjects in [world.postfix.subjects()] if acknowledged <= set(subjects)], 30)[0]
    check_equal("delivered twice", [marker for marker in acknowledged if arrived[marker] > 1], [])


@test("a change takes effect with reload, and a session keeps running")
def _(world):
    container = world.container
    with smtplib.SMTP("127.0.0.1", 25, timeout=15) as client:
        client.ehlo("x.example")
        with configuration(world, "size = 123456"):
            container.systemctl("reload", SMTPD)
            check_equal("NOOP after the reload", client.noop()[0], 250)
            with smtplib.SMTP("127.0.0.1", 25, timeout=15) as other:
                check(b"SIZE 123456" in other.ehlo("x.example")[1], "the new limit is not announced")


@test("reload with a wrong option fails, says where, and keeps the old configuration")
def _(world):
    container = world.container
    with configuration(world, "size = 123456"):
        container.systemctl("reload", SMTPD)
        pid = container.pid(SMTPD)
        container.write(CONFIG, "size = 654321\nidel-timeout = 5min\n")
        for unit in (SMTPD, FORWARD):
            container.systemctl("start", unit)
            result = container.systemctl("reload", unit, check=False)
            check(result.returncode != 0, f"systemctl reload says that it worked for {unit}")
            check_equal(unit, container.show(unit, "ActiveState"), "active")
        check_equal("the process", container.pid(SMTPD), pid)
        with smtplib.SMTP("127.0.0.1", 25, timeout=15) as client:
            check(b"SIZE 123456" in client.ehlo("x.example")[1], "the old limit is gone")
    text = wait_for("the journal says where", lambda: [record["MESSAGE"] for record in journal(
        world, "MESSAGE_ID=5723f52ad4a94e4b916da9c130622d9f") if f"{CONFIG}:2:" in record["MESSAGE"]])[0]
    check("idle-timeout" in text, f"the nearest name is not suggested: {text}")


@test("a drop-in moves the port, with a session open")
def _(world):
    container = world.container
    client = smtplib.SMTP("127.0.0.1", 25, timeout=30)
    client.ehlo("x.example")
    container.drop_in("emailrelay-smtp.socket", "[Socket]\nListenStream=\nListenStream=2525\n")
    container.systemctl("restart", "emailrelay-smtp.socket")
    try:
        code = client.noop()[0]
    except smtplib.SMTPServerDisconnected:
        code = 421 # smtplib has thrown away the line that came before the end
    check(code in (250, 421), f"the open session got {code}")
    client.close()
    peers.send(2525, "moved-port.")
    check(not listening(world, 25), "the old port is still open")
    peers.send(587, "other-port.")
    world.postfix.wait_for("moved-port.")
    world.postfix.wait_for("other-port.")
    container.drop_in("emailrelay-smtp.socket", None)
    container.systemctl("restart", "emailrelay-smtp.socket")
    peers.send(25, "port-moved-back.")


@test("one socket is stopped, the others go on")
def _(world):
    container = world.container
    container.systemctl("disable", "--now", "emailrelay-submission.socket")
    check(not listening(world, 587), "port 587 is still open")
    peers.send(25, "without-submission.")


@test("an open session is told to go when the service stops")
def _(world):
    container = world.container
    with socket.create_connection(("127.0.0.1", 25), timeout=30) as connection:
        check(connection.recv(1000).startswith(b"220"), "no greeting")
        container.systemctl("stop", SMTPD)
        data = b""
        while piece := connection.recv(1000):
            data += piece
        check(data.startswith(b"421"), f"the idle session got {data!r}")
    check_equal("the service", container.show(SMTPD, "Result"), "success")


@test("two instances stand side by side")
def _(world):
    container = world.container
    for name, port in (("one", 2601), ("two", 2602)):
        container.write(f"/etc/emailrelay/{name}.conf", f"domain = {name}.example\nidle-exit = 30s\n")
        container.drop_in(f"emailrelay-smtp@{name}.socket", f"[Socket]\nListenStream={port}\n")
        container.systemctl("enable", "--now", f"emailrelay-smtp@{name}.socket")
    for name, port in (("one", 2601), ("two", 2602)):
        check_equal("the service before a connection", container.pid(f"emailrelay-smtp@{name}.service"), 0)
        with smtplib.SMTP("127.0.0.1", port, timeout=15) as client:
            greeting = client.ehlo("x.example")[1].decode()
            check(greeting.startswith(f"{name}.example"), f"the greeting's name: {greeting}")
            check("CHUNKING" in greeting, "an instance does not have the vendor defaults")
        msgid = peers.queue_id(peers.send(port, f"for-{name}."))
        check_equal(f"spool of {name}", queue(world, f"/var/spool/emailrelay-{name}"), [msgid])
        check_equal("status", container.systemctl("is-active", f"emailrelay-smtp@{name}.service").stdout, "active\n")
        container.systemctl("reload", f"emailrelay-smtp@{name}.service")


@test("an instance forwards by itself")
def _(world):
    container = world.container
    container.write("/etc/emailrelay/two.conf.d/50-next.conf", f"forward-to = 127.0.0.1:{peers.SINK_PORT}\n")
    container.systemctl("reload", "emailrelay-smtp@two.service")
    container.systemctl("enable", "--now", "emailrelay-forward@two.timer")
    world.sink.wait_for("for-two.")
    wait_for("the spool is empty", lambda: not queue(world, "/var/spool/emailrelay-two"))
    check_equal("messages of the other instance", len(queue(world, "/var/spool/emailrelay-one")), 1)
    container.systemctl("enable", "emailrelay-submit@two.socket")
    container.systemctl("restart", "emailrelay-submit@two.socket")
    container.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "emailrelay-submit", "--instance=two",
                  "--from", "alice@example.org", "bob@example.com", input=peers.message("for-two-by-submit."))
    world.sink.wait_for("for-two-by-submit.")


@test("the target stops and starts everything that is enabled")
def _(world):
    container = world.container
    container.systemctl("enable", "emailrelay.target")
    container.systemctl("start", "emailrelay.target")
    container.systemctl("stop", "emailrelay.target")
    for unit in ("emailrelay-smtp.socket", "emailrelay-submit.socket", SMTPD, "emailrelay-forward.timer",
                 "emailrelay-forward.socket", FORWARD):
        check_equal(unit, container.show(unit, "ActiveState"), "inactive")
    check_equal("an instance's socket", container.show("emailrelay-smtp@one.socket", "ActiveState"), "active")
    container.systemctl("start", "emailrelay.target")
    for unit in ("emailrelay-smtp.socket", "emailrelay-submit.socket", "emailrelay-forward.timer"):
        check_equal(unit, container.show(unit, "ActiveState"), "active")
    peers.send(25, "after-the-target.")
    world.postfix.wait_for("after-the-target.")
