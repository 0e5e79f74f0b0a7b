# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured: each function takes the arguments, a server and a case, and returns figures by name."""

import json
import os
import subprocess
import time

from servers import Trouble, raise_descriptors


# ── the two ends ────────────────────────────────────────────────────────────────────────────


def load(build, port, *options):
    text = subprocess.run([f"{build}/tests/bench/smtp-load", f"--port={port}", *options], check=True,
                          timeout=120, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(text)


class Holder:
    """Sessions that say nothing after EHLO."""

    def __init__(self, build, port, sessions):
        self.process = subprocess.Popen([f"{build}/tests/bench/smtp-load", f"--port={port}", f"--sessions={sessions}",
                                         "--hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        preexec_fn=raise_descriptors)
        if not self.process.stdout.readline():
            raise Trouble(f"{sessions} sessions cannot be opened")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        if self.process.wait(timeout=60) != 0:
            raise Trouble("idle sessions did not stay open")


class Sink:
    def __init__(self, build, messages, delay):
        self.process = subprocess.Popen([f"{build}/tests/bench/smtp-sink", f"--messages={messages}",
                                         f"--delay={delay}ms"], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])

    def result(self):
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


# ── taking in ───────────────────────────────────────────────────────────────────────────────


def warm_up(args, server, *options):
    """Processes are there, caches warm."""
    load(args.build, server.port, *options, "--seconds=200ms")


def measure_accept(args, server, case):
    options = [f"--sessions={case['sessions']}", f"--size={case['octets']}", f"--seconds={args.seconds * 1000:.0f}ms"]
    if case["one"]:
        options.append("--per-connection=1")
    if args.no_pipelining:
        options.append("--no-pipelining")

    server.clear()
    os.sync()
    warm_up(args, server, *options[:2])
    cpu = server.group.seconds()
    result = load(args.build, server.port, *options)
    result["cpu"] = (server.group.seconds() - cpu) * 1000 / max(result["messages"], 1)
    server.clear()
    return result


def measure_burst(args, server, case):
    """All connect at once, and leave after greeting and EHLO. Connections that find the server's queue full may have to
    wait for the next try of TCP."""
    server.clear()
    warm_up(args, server)
    return load(args.build, server.port, f"--sessions={case['sessions']}", "--seconds=0", "--give-up=5s")


def intake_rate(args, server):
    return load(args.build, server.port, f"--seconds={args.seconds * 1000:.0f}ms")["rate"]


def measure_idle(args, server, case):
    """Memory and processor time of sessions that say nothing, and what others notice of them."""
    server.clear()
    warm_up(args, server)
    before, empty = intake_rate(args, server), server.group.kib()
    holder = Holder(args.build, server.port, case["held"][server.name])
    full = server.group.kib()
    time.sleep(1) # what opening them has left to be done
    cpu, begun = server.group.seconds(), time.monotonic()
    time.sleep(case["rest"])
    cpu, span = server.group.seconds() - cpu, time.monotonic() - begun
    rate = intake_rate(args, server)
    holder.close()
    server.clear()
    without = (before + intake_rate(args, server)) / 2 # on both sides, as the machine's other work comes and goes
    server.clear()
    return {"kib": (full - empty) / case["held"][server.name], "at_rest": cpu / span * 100, "rate": rate,
            "rate_without": without, "rate_ratio": rate / without}


# ── sending on ──────────────────────────────────────────────────────────────────────────────


def fill(args, server, messages):
    server.clear()
    server.start_accepting()
    try:
        load(args.build, server.port, "--sessions=10", "--seconds=60", f"--messages={messages}", "--size=4K")
    finally:
        server.stop()
    if server.queued() != messages:
        raise Trouble(f"{server.name} queued {server.queued()} of {messages} messages")


def measure_forward(args, server, case):
    fill(args, server, case["messages"])
    sink = Sink(args.build, case["messages"], case["delay"])
    try:
        if hasattr(server, "forward_prepare"):
            server.forward_prepare(sink.port)
        os.sync()
        cpu, begun = server.group.seconds(), time.monotonic()
        server.forward_queue(sink.port, case["lines"])
        result = sink.result()
        server.forward_finish()
        result["cpu"] = (server.group.seconds() - cpu) * 1000 / case["messages"]
        result["rate"] = case["messages"] / (result["last"] - begun)
    finally:
        sink.close()
        server.stop()
    return result


# ── a long queue ────────────────────────────────────────────────────────────────────────────

ENVELOPE = "".join(f"X-MailRelay-{line}\r\n" for line in (
    "Format: #2821.8", "Content: 8bit", "From: sender@example.com", "ToCount: 1", "To-Remote: recipient@example.net",
    "Authentication: ", "Client: 127.0.0.1", "ClientCertificate: ", "MailFromAuthIn: ", "MailFromAuthOut: ", "ForwardTo: ",
    "ForwardToAddress: ", "ClientAccountSelector: ", "Utf8MailboxNames: 0", "End: 1")).encode()
CONTENT = b"From: <sender@example.com>\r\nSubject: a message of a measurement\r\n\r\n" + b"x" * 70 + b"\r\n"


class Backlog:
    """Thousands of messages, written as files, that are moved into the spool and out of it."""

    PREFIX = "emailrelay.4242."

    def __init__(self, server):
        self.spool, self.aside, self.account = server.spool, f"{server.directory}/aside", server.account
        self.n_made = 0
        os.makedirs(self.aside, exist_ok=True)

    def _count(self):
        return sum(name.endswith(".envelope") for name in os.listdir(self.aside))

    def _write(self, name, data):
        fd = os.open(f"{self.aside}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o660)
        os.write(fd, data)
        os.fchown(fd, self.account.pw_uid, self.account.pw_gid)
        os.close(fd)

    def complete(self, messages):
        for _ in range(messages - self._count()):
            name = f"{self.PREFIX}{1700000000 + self.n_made // 10}.{self.n_made}"
            self._write(f"{name}.content", CONTENT)
            self._write(f"{name}.envelope", ENVELOPE)
            self.n_made += 1

    def _move(self, source, target):
        for name in os.listdir(source):
            if name.startswith(self.PREFIX):
                os.rename(f"{source}/{name}", f"{target}/{name}")

    def move_in(self):
        self._move(self.aside, self.spool)

    def move_out(self):
        self._move(self.spool, self.aside)


def intake_beside(args, server, backlog):
    """Rates beside the backlog and without it, and the times to start."""
    started_without = server.start_accepting()
    warm_up(args, server)
    before = intake_rate(args, server)
    server.clear()
    backlog.move_in()
    os.sync()
    warm_up(args, server)
    rate = intake_rate(args, server)
    server.stop()
    server.clear(backlog.PREFIX)
    started = server.start_accepting()
    backlog.move_out()
    os.sync()
    warm_up(args, server)
    without = (before + intake_rate(args, server)) / 2
    server.stop()
    server.clear()
    return {"rate": rate, "rate_without": without, "rate_ratio": rate / without, "started": started * 1000,
            "started_without": started_without * 1000}


def first_message(args, server, begin):
    """Seconds from a trigger to the first message at the next hop; begin(sink) returns when the trigger was."""
    sink = Sink(args.build, 1, 0)
    try:
        begun = begin(sink)
        return sink.result()["last"] - begun
    finally:
        server.stop()
        sink.close()


def measure_spooled(args, server, case):
    if "backlog" not in case:
        case["backlog"] = Backlog(server)
    backlog = case["backlog"]
    backlog.complete(case["messages"])
    server.clear()
    result = intake_beside(args, server, backlog)

    def wake(sink):
        server.start_forwarder(sink.port)
        backlog.move_in()
        begun = time.monotonic()
        server.wake()
        return begun

    def start(sink):
        begun = time.monotonic()
        server.forward_queue(sink.port, [])
        return begun

    result["after_wake"] = first_message(args, server, wake)
    server.list() # caches are warm
    result["list"], result["list_first"] = server.list()
    result["list_json"], _ = server.list("--json")
    result["after_start"] = first_message(args, server, start)
    backlog.move_out()
    server.clear()
    return result
