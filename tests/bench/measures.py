# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is measured: each function takes the arguments, a server and a case, and returns figures by name."""

import json
import os
import statistics
import subprocess
import time

from servers import Trouble, make_certificate, raise_descriptors


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
    options = [f"--sessions={case['sessions']}", f"--size={case['octets']}", *case.get("tls", [])]
    more = [f"--seconds={args.seconds * 1000:.0f}ms"]
    if case["one"]:
        more.append("--per-connection=1")
    if args.no_pipelining:
        more.append("--no-pipelining")

    server.clear()
    os.sync()
    warm_up(args, server, *options)
    cpu = server.group.seconds()
    result = load(args.build, server.port, *options, *more)
    result["cpu"] = (server.group.seconds() - cpu) * 1000 / max(result["messages"] or result["finished"], 1)
    server.clear()
    return result


def measure_tls(args, server, case):
    """As without TLS, with the certificate of the case. Without messages the figures are those of connections."""
    certificate = case["certificate"] and make_certificate(args.place, case["certificate"], args.account)
    if server.certificate != certificate:
        server.stop()
        server.start_accepting(certificate)
    result = measure_accept(args, server, case)
    return {key: value for key, value in result.items() if result["handshakes"] or not key.startswith("handshake_")}


def measure_burst(args, server, case):
    """All connect at once, and leave after greeting and EHLO. Connections that find the server's queue full may have to
    wait for the next try of TCP."""
    server.clear()
    warm_up(args, server)
    return load(args.build, server.port, f"--sessions={case['sessions']}", "--seconds=0", "--give-up=5s")


def intake(args, server):
    cpu = server.group.seconds()
    result = load(args.build, server.port, f"--seconds={args.seconds * 1000 / 3:.0f}ms")
    result["cpu"] = (server.group.seconds() - cpu) * 1000 / result["messages"]
    return result


def intake_beside_twin(args, server):
    """Whether a server that carries a lot takes mail in as fast as one that does not: both in turn, in slices so short that
    what else the machine does hits both."""
    twin, pairs = server.twin(), []
    try:
        twin.start_accepting()
        for one in server, twin:
            warm_up(args, one)
        for i in range(10):
            slices = {one: intake(args, one) for one in ((server, twin) if i % 2 == 0 else (twin, server))}
            pairs.append((slices[server], slices[twin]))
    finally:
        twin.close()
        twin.clear()
    return {"rate": statistics.median(ours["rate"] for ours, _ in pairs),
            "rate_without": statistics.median(others["rate"] for _, others in pairs),
            "rate_ratio": statistics.median(ours["rate"] / others["rate"] for ours, others in pairs),
            "cpu_ratio": statistics.median(ours["cpu"] / others["cpu"] for ours, others in pairs)}


def measure_idle(args, server, case):
    """Memory and processor time of sessions that say nothing, and what others notice of them. The server is a new one: others
    may keep what they had for earlier sessions."""
    server.stop()
    server.clear()
    server.start_accepting()
    warm_up(args, server)
    empty = server.group.kib()
    holder = Holder(args.build, server.port, case["held"][server.name])
    result = {"kib": (server.group.kib() - empty) / case["held"][server.name]}
    time.sleep(1) # what opening them has left to be done
    cpu, begun = server.group.seconds(), time.monotonic()
    time.sleep(case["rest"])
    result["at_rest"] = (server.group.seconds() - cpu) / (time.monotonic() - begun) * 100
    if hasattr(server, "twin"):
        result.update(intake_beside_twin(args, server))
    holder.close()
    server.clear()
    return result


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


class Backlog:
    """Thousands of messages, written as files, that are moved into the queue and out of it."""

    def __init__(self, server):
        self.server, self.n_made = server, 0
        server.clear()
        server.prepare_backlog()
        server.clear()

    def _write(self, name, data):
        fd = os.open(f"{self.server.aside}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(fd, data)
        os.fchown(fd, self.server.account.pw_uid, self.server.account.pw_gid)
        os.fchmod(fd, self.server.file_mode)
        os.close(fd)

    def complete(self, messages):
        """Those that have been sent are made up for."""
        files = len(self.server.backlog_files(0))
        for _ in range(messages - len(os.listdir(self.server.aside)) // files):
            for name, data in self.server.backlog_files(self.n_made):
                self._write(name, data)
            self.n_made += 1
        os.sync()

    def _move(self, source, target):
        for name in os.listdir(source):
            if name.startswith(self.server.backlog_prefix):
                os.rename(f"{source}/{name}", f"{target}/{name}")

    def move_in(self):
        self._move(self.server.aside, self.server.incoming)
        os.sync()

    def move_out(self):
        for queue in self.server.queues:
            self._move(queue, self.server.aside)
        self.server.clear(but=self.server.backlog_prefix)


def measure_intake_spooled(args, server, backlog):
    started_without = server.start_accepting()
    server.stop()
    backlog.move_in()
    started = server.start_accepting()
    result = {"started": started * 1000, "started_without": started_without * 1000,
              **intake_beside_twin(args, server)}
    server.stop()
    backlog.move_out()
    return result


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

    backlogs = case.setdefault("backlogs", {})
    if server.name not in backlogs:
        backlogs[server.name] = Backlog(server)
    backlog = backlogs[server.name]
    backlog.complete(case["messages"])
    result = measure_intake_spooled(args, server, backlog) if hasattr(server, "twin") else {}

    backlog.move_in()
    server.list() # caches are warm
    result["list"], result["list_first"], result["list_cpu"] = server.list()
    result["list_json"], _, _ = server.list(json=True)
    if hasattr(server, "twin"): # Postfix's start is that of more than its queue manager
        result["after_start"] = first_message(args, server, start)
    backlog.move_out()
    result["after_wake"] = first_message(args, server, wake)
    backlog.move_out()
    return result
