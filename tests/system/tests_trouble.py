# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes wrong: broken configuration, crashes, a loop that hangs, and a service that went away because nobody
needed it."""

import signal
import smtplib
import socket
import time

import peers
from checks import check, check_equal, test, wait_for
from tests_basic import CONFIG, SMTPD, configure, journal, queue

INSTANCE = "emailrelay-smtp@one.service"
SPOOL_TROUBLE = "25cbaa012e7b438094a08da32153ea1f"
SPOOL_RECOVERED = "a05f335d82ac401080ea754f974e6536"


class Waiting:
    """A client that has connected and waits for its greeting."""

    def __init__(self, port=25, seconds=30):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)

    def greeting(self):
        with self.socket:
            return self.socket.recv(1000)


def is_greeted(port=25):
    greeting = Waiting(port).greeting()
    check(greeting.startswith(b"220 "), f"the waiting client got {greeting!r}")


@test("five seconds of broken configuration: the socket stays, the waiting client is served")
def _(world):
    container = world.container
    container.systemctl("stop", SMTPD)
    container.write(CONFIG, "size = many\n")
    try:
        clients = [Waiting() for _ in range(3)]
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline: # here time itself is what is tested
            state = container.show("emailrelay-smtp.socket", "ActiveState")
            check_equal("the socket meanwhile", state, "active")
            time.sleep(0.2)
        check(int(container.show(SMTPD, "NRestarts")) >= 3, "the service has not been tried again")
    finally:
        configure(world, "idle-exit = 30s")
    for client in clients:
        greeting = client.greeting()
        check(greeting.startswith(b"220 "), f"the waiting client got {greeting!r}")


@test("fifteen kill -9 in a row: the socket stays, the waiting client is served")
def _(world):
    container = world.container
    for _ in range(15):
        is_greeted()
        pid = wait_for("the service runs", lambda: container.pid(SMTPD))
        container.kill(SMTPD, signal.SIGKILL)
        wait_for("the process is gone", lambda: container.pid(SMTPD) != pid)
        check_equal("the socket", container.show("emailrelay-smtp.socket", "ActiveState"), "active")
    is_greeted()
    peers.send(25, "after-fifteen-kills.")
    world.postfix.wait_for("after-fifteen-kills.")


@test("the watchdog replaces a server whose loop hangs")
def _(world):
    container = world.container
    container.drop_in(SMTPD, "[Service]\nWatchdogSec=2s\n")
    container.systemctl("restart", SMTPD)
    pid = container.pid(SMTPD)
    container.kill(SMTPD, signal.SIGSTOP)
    client = Waiting()
    wait_for("another process", lambda: container.pid(SMTPD) not in (0, pid), 20)
    check(client.greeting().startswith(b"220 "), "the waiting client is not served")
    # a healthy one is left alone for longer than its watchdog waits
    pid, begin = container.pid(SMTPD), time.monotonic()
    wait_for("five seconds of health", lambda: time.monotonic() > begin + 5 or container.pid(SMTPD) != pid)
    check_equal("the process", container.pid(SMTPD), pid)
    container.drop_in(SMTPD, None)
    container.systemctl("restart", SMTPD)


@test("the server takes mail while the forwarder is down")
def _(world):
    container = world.container
    container.systemctl("stop", "emailrelay-forward.timer")
    check_equal("the forwarder's socket", container.show("emailrelay-forward.socket", "ActiveState"), "inactive")
    peers.send(25, "while-forward-is-down.")
    container.systemctl("start", "emailrelay-forward.timer")
    world.postfix.wait_for("while-forward-is-down.")


@test("a full spool is a 452, and the service recovers by itself")
def _(world):
    container = world.container
    small = "/srv/small"
    container.run("install", "-d", small)
    container.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=02770,uid=emailrelay,gid=emailrelay", "tmpfs", small)
    container.drop_in(INSTANCE, f"[Service]\nReadWritePaths={small}\n")
    container.write("/etc/emailrelay/one.conf", f"domain = one.example\nspool-dir = {small}\n")
    container.systemctl("restart", INSTANCE)
    with smtplib.SMTP("127.0.0.1", 2601, timeout=15) as client:
        client.ehlo("x.example")
        try:
            client.sendmail("a@example.org", "b@example.com", peers.message("too-much.", 100000))
            check(False, "accepted although there is no room")
        except smtplib.SMTPDataError as error:
            check_equal("reply", error.smtp_code, 452)
    check_equal("files left", [name for name in container.list(small) if name != ".lock"], [])
    pid = container.pid(INSTANCE)
    peers.send(2601, "small-enough.")
    check_equal("messages", len(queue(world, small)), 1)
    check_equal("the process", container.pid(INSTANCE), pid)
    events = [record.get("MESSAGE_ID") for record in journal(world, f"_PID={pid}")]
    check(SPOOL_TROUBLE in events and SPOOL_RECOVERED in events, "the journal does not tell of it")


@test("without work the programs exit, and the next client is served")
def _(world):
    container = world.container
    unit = "emailrelay-smtp@two.service" # nobody has needed it since the test of the instances
    check_equal("its configuration", "idle-exit = 30s" in container.read("/etc/emailrelay/two.conf"), True)
    wait_for("the server has exited", lambda: container.pid(unit) == 0, 60)
    check_equal("how it ended", container.show(unit, "Result"), "success")
    check_equal("the socket", container.show("emailrelay-smtp@two.socket", "SubState"), "listening")
    wait_for("the forwarder has exited, too", lambda: any("Deactivated successfully" in record["MESSAGE"]
             for record in journal(world, "UNIT=emailrelay-forward@two.service")), 60)
    peers.send(2602, "after-idle-exit.")
    world.sink.wait_for("after-idle-exit.")
