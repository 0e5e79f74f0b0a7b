# SPDX-License-Identifier: LGPL-2.1-or-later
"""The servers that are measured, each with a configuration, a queue and a log of its own in one directory, and the
control group that counts their processor time.

Both write their log to a file, one line or more per message: neither is measured with its log switched off. Neither
uses filters or DNS, and TLS only where that is measured, with the same certificate. What is not the server (the load generator, the sink, this program) stays outside
the group.
"""

import contextlib
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time


class Trouble(Exception):
    pass


def wait_until(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Trouble(f"waited {seconds} s in vain: {what}")
        time.sleep(0.005)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def raise_descriptors():
    """For a child that opens thousands of connections."""
    hard = max(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


# What `openssl req` makes a key by.
CERTIFICATES = {"ECDSA P-256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "RSA-2048": ["rsa:2048"]}


def make_certificate(directory, name, account):
    """A file with key and certificate, for the one server by its account, for the other by root."""
    path = f"{directory}/{name.replace(' ', '-').lower()}.pem"
    if not os.path.exists(path):
        both = subprocess.run(["openssl", "req", "-x509", "-newkey", *CERTIFICATES[name], "-nodes", "-days", "30",
                               "-subj", "/CN=bench.example", "-keyout", "-"], check=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        write(path, both)
        os.chown(path, pwd.getpwnam(account).pw_uid, -1)
    return path


class Group:
    """A control group of either version: processor time of all that ever ran in it."""

    def __init__(self, name):
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            self.version, root, self.file = 2, "/sys/fs/cgroup", "cpu.stat"
        elif os.path.isdir("/sys/fs/cgroup/cpuacct"):
            self.version, root, self.file = 1, "/sys/fs/cgroup/cpuacct", "cpuacct.usage"
        else:
            raise Trouble("there are no control groups to count processor time with")
        self.path = f"{root}/emailrelay-bench-{os.getpid()}-{name}"
        os.mkdir(self.path)

    def join(self):
        """For a child before it becomes the server."""
        write(f"{self.path}/cgroup.procs", "0")

    def seconds(self):
        with open(f"{self.path}/{self.file}", encoding="ascii") as file:
            text = file.read()
        if self.version == 1:
            return int(text) / 1e9
        return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6

    def pids(self):
        with open(f"{self.path}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file]

    def kib(self):
        """Memory of all processes; pages that they share are divided among them."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        return total

    def empty(self, seconds=10):
        """Ends what the server started and left behind: nothing else is in the group."""
        try:
            wait_until("processes end", lambda: not self.pids(), seconds)
        except Trouble:
            for pid in self.pids():
                os.kill(pid, signal.SIGKILL)
            wait_until("processes die", lambda: not self.pids())

    def close(self):
        self.empty()
        os.rmdir(self.path)


def time_list(*command):
    """What printing the queue takes: seconds, until the first line, and of the processor."""
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.readline()
        first = time.monotonic() - begun
        while os.read(process.stdout.fileno(), 1 << 20):
            pass
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Trouble(f"{command[0]} cannot list the queue")
    return time.monotonic() - begun, first, usage.ru_utime + usage.ru_stime


ENVELOPE = "".join(f"X-MailRelay-{line}\r\n" for line in (
    "Format: #2821.8", "Content: 8bit", "From: sender@example.com", "ToCount: 1", "To-Remote: recipient@example.net",
    "Authentication: ", "Client: 127.0.0.1", "ClientCertificate: ", "MailFromAuthIn: ", "MailFromAuthOut: ", "ForwardTo: ",
    "ForwardToAddress: ", "ClientAccountSelector: ", "Utf8MailboxNames: 0", "End: 1")).encode()
CONTENT = b"From: <sender@example.com>\r\nSubject: a message of a measurement\r\n\r\n" + b"x" * 70 + b"\r\n"


class EmailRelay:
    """smtpd on an inherited socket; the forwarder in one pass over what is spooled."""

    name = "emailrelay"
    backlog_prefix, file_mode = "emailrelay.4242.", 0o660

    def __init__(self, build, directory, account, options, group="ours"):
        self.twin_arguments = build, f"{directory}/twin", account, options, f"{group}-twin"
        self.smtpd = f"{build}/src/smtpd/emailrelay-smtpd"
        self.forward = f"{build}/src/forward/emailrelay-forward"
        self.ctl = f"{build}/src/ctl/emailrelayctl"
        self.directory, self.options = f"{directory}/emailrelay", options
        self.spool, self.runtime = f"{self.directory}/spool", f"{self.directory}/run"
        self.log = f"{self.directory}/log"
        self.incoming, self.queues, self.aside = self.spool, [self.spool], f"{self.directory}/aside"
        self.account = pwd.getpwnam(account)
        for path in self.directory, self.spool, self.aside, self.runtime, f"{self.runtime}/control":
            os.makedirs(path, exist_ok=True)
            os.chown(path, self.account.pw_uid, self.account.pw_gid)
        self.group = Group(group)
        self.process = None
        self.port, self.certificate = 0, None

    def twin(self):
        """Another one that is the same but has a queue of its own."""
        return EmailRelay(*self.twin_arguments)

    def _config(self, program):
        return f"{self.directory}/{os.path.basename(program)}.conf"

    def _spawn(self, program, lines, arguments, **more):
        config = self._config(program)
        write(config, f"spool-dir {self.spool}\nruntime-dir {self.runtime}\nlog-file {self.log}\n"
              "log-time\ndomain bench.example\n" + "".join(f"{line}\n" for line in lines + self.options))
        return subprocess.Popen([program, f"--config={config}", *arguments], preexec_fn=self._become,
                                stdin=subprocess.DEVNULL, **more)

    def _become(self):
        self.group.join()
        raise_descriptors()
        os.setgroups([])
        os.setgid(self.account.pw_gid)
        os.setuid(self.account.pw_uid)

    def start_accepting(self, certificate=None):
        """Returns the seconds until it greets."""
        self.certificate = certificate
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", 0))
            listener.listen(1024)
            self.port = listener.getsockname()[1]
            begun = time.monotonic()
            tls = ["server-tls", f"server-tls-certificate {certificate}"] if certificate else []
            self.process = self._spawn(self.smtpd, ["max-sessions 6000", "max-sessions-per-client 0", *tls],
                                       [f"--interface=smtp=fd#{listener.fileno()}"],
                                       pass_fds=[listener.fileno()])
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as probe:
            if not probe.recv(100).startswith(b"220"):
                raise Trouble("emailrelay-smtpd does not greet")
        return time.monotonic() - begun

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=30)
        self.process = None

    def queued(self):
        return sum(name.endswith(".envelope") for name in os.listdir(self.spool))

    def clear(self, but=None):
        """Removes the messages, except those whose names begin like that."""
        for entry in os.scandir(self.spool):
            if entry.name != ".lock" and not (but and entry.name.startswith(but)):
                os.unlink(entry.path)

    def forward_queue(self, sink_port, lines):
        """Returns when the forwarder has been started."""
        self.process = self._spawn(self.forward, [f"forward-to 127.0.0.1:{sink_port}", *lines], ["--once"])

    def start_forwarder(self, sink_port):
        """As its socket does, with nothing to do yet."""
        path = f"{self.runtime}/forward"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(16)
            self.process = self._spawn(self.forward, [f"forward-to 127.0.0.1:{sink_port}"],
                                       [f"--interface=forward=fd#{listener.fileno()}"], pass_fds=[listener.fileno()])
        self.wake()

    def wake(self):
        """Has the forwarder look at the spool; returns when it has heard that."""
        subprocess.run([self.ctl, f"--config={self._config(self.forward)}", "forward"], check=True, timeout=60,
                       stdout=subprocess.DEVNULL)

    def list(self, json=False):
        return time_list(self.ctl, "--config=/dev/null", f"--spool-dir={self.spool}", "list", *["--json"] * json)

    def prepare_backlog(self):
        pass

    @staticmethod
    def backlog_files(number):
        """Names and contents of a message, as if it had come ten a second."""
        name = f"{EmailRelay.backlog_prefix}{1700000000 + number // 10}.{number}"
        return (f"{name}.content", CONTENT), (f"{name}.envelope", ENVELOPE)

    def forward_finish(self):
        self.process.wait(timeout=60)
        self.process = None

    def close(self):
        self.stop()
        self.group.close()


MAIN_CF = """\
alias_database =
alias_maps =
command_directory = {commands}
compatibility_level = 3.6
daemon_directory = {daemons}
data_directory = {directory}/data
default_destination_concurrency_limit = {connections}
default_process_limit = 200
in_flow_delay = 0
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
initial_destination_concurrency = {connections}
local_transport = error
mail_owner = postfix
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
mydestination =
myhostname = bench.example
mynetworks = 127.0.0.0/8
mynetworks_style = host
queue_directory = {directory}/queue
relay_domains =
relayhost = [127.0.0.1]:{sink}
setgid_group = postdrop
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtp_tls_security_level = none
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_relay_restrictions = permit_mynetworks, reject
"""

NO_TLS = "smtpd_tls_security_level = none\n"
TLS = "smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {certificate}\n"

MASTER_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""

QMGR = "qmgr unix n - n 300 1 qmgr\n"


class Postfix:
    """A Postfix of its own. While mail is only accepted it has no queue manager, since forwarding is another
    measurement: somebody reads what is meant to wake it, and the mail stays in its first queue. With `whole` it has
    one, as every Postfix in real life, which puts the mail off until somebody asks for it."""

    name = "postfix"
    backlog_prefix, file_mode = "B0000", 0o700

    def __init__(self, directory, connections, whole=False):
        self.directory, self.connections, self.whole = f"{directory}/postfix", connections, whole
        self.config = f"{self.directory}/etc"
        self.queue = f"{self.directory}/queue"
        self.incoming, self.aside = f"{self.queue}/incoming", f"{self.queue}/aside"
        self.queues = [self.incoming, f"{self.queue}/active"]
        self.backlog_data = b""
        self.log = f"{self.directory}/log"
        owner = self.account = pwd.getpwnam("postfix")
        for path in self.directory, self.config, self.queue, f"{self.directory}/data":
            os.makedirs(path, exist_ok=True)
        os.chown(f"{self.directory}/data", owner.pw_uid, -1)
        self.group = Group("postfix")
        self.port, self.sink_port, self.certificate = free_port(), 0, None
        self.running, self.waker = False, None
        self._configure(1, False)
        self._command("postfix", "check")
        os.makedirs(self.aside, exist_ok=True)
        os.chown(self.aside, owner.pw_uid, -1)

    @staticmethod
    def available():
        return os.geteuid() == 0 and shutil.which("postfix") is not None

    def _configure(self, sink_port, with_qmgr, certificate=None):
        def default(name):
            return subprocess.check_output(["postconf", "-h", name], text=True).strip()

        write(f"{self.config}/main.cf", MAIN_CF.format(
            directory=self.directory, connections=self.connections, sink=sink_port,
            commands=default("command_directory"), daemons=default("daemon_directory"))
            + ("" if sink_port > 1 else "defer_transports = smtp\n")
            + (TLS.format(certificate=certificate) if certificate else NO_TLS))
        write(f"{self.config}/master.cf", MASTER_CF.format(port=self.port) + (QMGR if with_qmgr else ""))

    def _command(self, program, *arguments):
        subprocess.run([program, "-c", self.config, *arguments], check=True, timeout=60, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=self.group.join)

    def _start(self):
        self._command("postfix", "start")
        self.running = True
        wait_until("Postfix listens", lambda: listens(self.port))

    def _wake_nobody(self):
        """Stands in for the queue manager, at no cost to the servers."""
        path = f"{self.queue}/public/qmgr"
        if os.path.lexists(path):
            os.unlink(path)
        os.mkfifo(path)
        os.chmod(path, 0o622)
        fd = os.open(path, os.O_RDWR)

        def read():
            while os.read(fd, 65536) != b"stop":
                pass
            os.close(fd)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()

        def stop():
            os.write(fd, b"stop")
            thread.join(1)
            os.unlink(path)

        return stop

    def start_accepting(self, certificate=None):
        self.certificate = certificate
        self._configure(1, self.whole, certificate)
        if not self.whole:
            self.waker = self._wake_nobody()
        self._start()

    def stop(self):
        if self.running:
            self._command("postfix", "stop")
            self.group.empty()
        self.running = False
        if self.waker:
            self.waker()
        self.waker = None

    def queued(self):
        return sum(len(files) for queue in ("incoming", "active", "deferred")
                   for _, _, files in os.walk(f"{self.queue}/{queue}"))

    def clear(self, but=None):
        for queue in "incoming", "aside", "active", "defer", "deferred":
            for directory, _, files in os.walk(f"{self.queue}/{queue}"):
                for name in files:
                    if but and name.startswith(but):
                        continue
                    with contextlib.suppress(FileNotFoundError):  # the queue manager may be at work
                        os.unlink(f"{directory}/{name}")

    def forward_prepare(self, sink_port):
        """Starts the queue manager with nothing to do; the queue waits beside it."""
        for name in os.listdir(self.incoming):
            os.rename(f"{self.incoming}/{name}", f"{self.aside}/{name}")
        self.start_forwarder(sink_port)

    def start_forwarder(self, sink_port):
        self._configure(sink_port, True)
        self._start()
        wait_until("the queue manager runs", lambda: os.path.exists(f"{self.queue}/public/qmgr"))

    def forward_queue(self, sink_port, lines):
        del sink_port, lines
        for name in os.listdir(self.aside):
            os.rename(f"{self.aside}/{name}", f"{self.incoming}/{name}")
        self.wake()

    def wake(self):
        for attempt in range(10):
            try:
                self._command("postkick", "public", "qmgr", "I")
                return
            except subprocess.CalledProcessError:
                time.sleep(0.01 * attempt) # it closes its socket on somebody while it starts
        raise Trouble("Postfix's queue manager cannot be woken")

    def list(self, json=False):
        """By root, while it does not run: that reads the queue by itself, too."""
        return time_list("postqueue", "-c", self.config, "-j" if json else "-p")

    def prepare_backlog(self):
        """Its files are copies of a message that it has taken in."""
        self.start_accepting()
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as client, client.makefile("rb") as replies:
            for line in (b"EHLO bench.example\r\n", b"MAIL FROM:<sender@example.com>\r\n",
                         b"RCPT TO:<recipient@example.net>\r\n", b"DATA\r\n", CONTENT + b".\r\n", b"QUIT\r\n"):
                client.sendall(line)
            while replies.readline():
                pass
        self.stop()
        names = os.listdir(self.incoming)
        if len(names) != 1:
            raise Trouble("Postfix has not taken in the message to be copied")
        with open(f"{self.incoming}/{names[0]}", "rb") as file:
            self.backlog_data = file.read()

    def backlog_files(self, number):
        return (f"{self.backlog_prefix}{number:05X}", self.backlog_data),

    def forward_finish(self):
        wait_until("Postfix removes what it sent",
                   lambda: not os.listdir(self.incoming) and not os.listdir(f"{self.queue}/active"))

    def close(self):
        self.stop()
        self.group.close()
