# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who talks to the relay: next hops that are real mail servers, and clients that count."""

import collections
import re
import smtplib
import threading

from checks import Failure, check, wait_for

POSTFIX_PORT = 10025
SINK_PORT = 10026
MAILBOX = "/var/mail/test/inbox"

MAIN_CF = f"""\
compatibility_level = 3.6
alias_database =
alias_maps =
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
data_directory = /var/lib/postfix-test
inet_interfaces = loopback-only
inet_protocols = ipv4
maillog_file = /var/log/postfix-test.log
mydestination =
myhostname = nexthop.example
mynetworks = 127.0.0.0/8
queue_directory = /var/spool/postfix-test
relay_domains =
virtual_gid_maps = static:65534
virtual_mailbox_base = /var/mail/test
virtual_mailbox_domains = example.com
virtual_mailbox_maps = static:inbox
virtual_minimum_uid = 100
virtual_uid_maps = static:65534
"""

MASTER_CF = f"""\
127.0.0.1:{POSTFIX_PORT} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A Postfix with a configuration and queue of its own; what it gets for example.com ends up in one mailbox."""

    def __init__(self, container):
        self.container = container
        container.write("/etc/postfix-test/main.cf", MAIN_CF)
        container.write("/etc/postfix-test/master.cf", MASTER_CF)
        container.run("install", "-d", "-o", "postfix", "/var/lib/postfix-test")
        container.run("install", "-d", "/var/spool/postfix-test", "/var/log")
        container.run("install", "-d", "-o", "65534", "-g", "65534", "/var/mail/test")
        container.run("postfix", "-c", "/etc/postfix-test", "start")

    def mailbox(self):
        try:
            return self.container.read(MAILBOX)
        except FileNotFoundError:
            return ""

    def subjects(self):
        """How often each subject is there."""
        return collections.Counter(re.findall(r"(?m)^Subject: (.*)$", self.mailbox()))

    def wait_for(self, marker, seconds=20):
        wait_for(f"Postfix gets {marker}", lambda: marker in self.mailbox(), seconds)


SUBMISSION_CF = """\
127.0.0.1:{port} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt
  -o smtpd_tls_wrappermode={wrapped}
  -o smtpd_tls_cert_file={directory}/server.pem
  -o smtpd_tls_key_file={directory}/server.key
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_sasl_local_domain={host}
  -o smtpd_sasl_authenticated_header=yes
  -o mynetworks=
  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject
"""

SMTPD_CONF = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {directory}/sasldb2
mech_list: PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256
"""


class Submission:
    """Two further ports of that Postfix, for users with a password alone: Cyrus SASL knows "bob". The certificate is of an authority of its
    own, which the system is told to trust."""

    HOST, PORT, TLS_PORT = "nexthop.example", 10587, 10465
    DIRECTORY = "/etc/postfix-test/submission"
    TRUSTED = "/usr/local/share/ca-certificates/test.crt"

    def __init__(self, container):
        self.container, names = container, {"directory": self.DIRECTORY, "host": self.HOST}
        container.run("install", "-d", self.DIRECTORY, "/usr/local/share/ca-certificates")
        container.write("/etc/hosts", container.read("/etc/hosts") + f"\n127.0.0.1 {self.HOST} other.example\n")
        self._make_certificates()
        self.trust(True)
        container.write("/etc/postfix-test/sasl/smtpd.conf", SMTPD_CONF.format(**names)) # where Debian's Postfix looks
        database = f"{self.DIRECTORY}/sasldb2"
        container.run("saslpasswd2", "-c", "-p", "-f", database, "-u", self.HOST, "bob", input="right-9")
        container.run("chown", "postfix", database)
        master = container.read("/etc/postfix-test/master.cf")
        for port, wrapped in ((self.PORT, "no"), (self.TLS_PORT, "yes")):
            master += SUBMISSION_CF.format(port=port, wrapped=wrapped, **names)
        master += "tlsmgr unix - - n 1000? 1 tlsmgr\n"
        container.write("/etc/postfix-test/master.cf", master)
        container.run("postfix", "-c", "/etc/postfix-test", "reload")
        for port in (self.PORT, self.TLS_PORT):
            wait_for(f"Postfix listens on {port}",
                     lambda port=port: container.run("ss", "--no-header", "-ltn", f"sport = :{port}").stdout.strip())

    def _make_certificates(self):
        openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        ca = f"{self.DIRECTORY}/ca"
        self.container.run(*openssl, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", "/CN=Test Authority")
        self.container.run(*openssl, "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-keyout", f"{self.DIRECTORY}/server.key",
                           "-out", f"{self.DIRECTORY}/server.pem", "-subj", "/CN=server",
                           "-addext", f"subjectAltName=DNS:{self.HOST}", "-addext", "basicConstraints=critical,CA:FALSE")

    def trust(self, trusted):
        if trusted:
            self.container.write(self.TRUSTED, self.container.read(f"{self.DIRECTORY}/ca.pem"))
        else:
            self.container.remove(self.TRUSTED)
        self.container.run("update-ca-certificates")

    def logins(self, mechanism):
        """How often somebody has logged in, with this mechanism or with any."""
        log = self.container.read("/var/log/postfix-test.log")
        return len(re.findall(f"sasl_method={mechanism.upper() or '[A-Z]'}", log))


class Sink:
    """Postfix's smtp-sink, which writes each message to a file."""

    DIRECTORY = "/var/lib/sink"

    def __init__(self, container):
        self.container = container
        container.run("install", "-d", "-o", "65534", self.DIRECTORY)
        container.run("systemd-run", "--quiet", "--collect", "--unit=test-sink", f"--working-directory={self.DIRECTORY}",
                      "smtp-sink", "-u", "nobody", "-d", f"{self.DIRECTORY}/m.", f"127.0.0.1:{SINK_PORT}", "100")

    def messages(self):
        return [self.container.read(f"{self.DIRECTORY}/{name}") for name in self.container.list(self.DIRECTORY)]

    def wait_for(self, marker, seconds=20):
        wait_for(f"smtp-sink gets {marker}", lambda: any(marker in text for text in self.messages()), seconds)


def message(marker, size=0):
    text = f"From: <alice@example.org>\r\nTo: <bob@example.com>\r\nSubject: {marker}\r\n\r\n{marker}\r\n"
    return text + "x" * 70 + "\r\n" if size == 0 else text + ("x" * 70 + "\r\n") * (size // 72)


def send(port, marker, host="127.0.0.1", timeout=15):
    """Hands one message in and returns the reply's text."""
    with smtplib.SMTP(host, port, timeout=timeout) as client:
        client.ehlo("client.example.org")
        client.mail("alice@example.org")
        code, text = client.rcpt("bob@example.com")
        check(code == 250, f"recipient refused: {code} {text}")
        code, text = client.data(message(marker))
        check(code == 250, f"message refused: {code} {text}")
        return text.decode()


def queue_id(reply):
    """The message's id from the reply to its content."""
    found = re.search(r"emailrelay\.\d+\.\d+\.\d+", reply)
    check(found, f"no message id in {reply!r}")
    return found.group()


class Load:
    """Clients that hand in one message after the other until told to stop. 421 means come back: they do, with the
    same message. What must not happen is a refused connection, any other refusal, or silence."""

    n_loads = 0

    def __init__(self, port, n_clients=4):
        Load.n_loads += 1
        self.number = Load.n_loads
        self.port = port
        self.acknowledged = set()
        self.problems = []
        self.n_returns = 0
        self.stopping = threading.Event()
        self.mutex = threading.Lock()
        self.threads = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(n_clients)]
        for thread in self.threads:
            thread.start()

    def _client(self, number):
        sequence = 0
        client = None
        while not self.stopping.is_set() and not self.problems:
            marker = f"load-{self.number}-{number}-{sequence}."
            try:
                if not client:
                    client = smtplib.SMTP(timeout=30)
                    code, text = client.connect("127.0.0.1", self.port)
                    if code == 421:
                        client = self._come_back(client)
                        continue
                    client.ehlo("client.example.org")
                outcome = self._one(client, marker)
            except (OSError, smtplib.SMTPException) as error:
                self.problems.append(f"{marker}: {error!r}")
                break
            if outcome == 421:
                client = self._come_back(client)
            elif outcome == 250:
                with self.mutex:
                    self.acknowledged.add(marker)
                sequence += 1
                self.stopping.wait(0.005) # the machine has others to serve, the next hop among them
            else:
                self.problems.append(f"{marker}: answered with {outcome}")
        if client:
            client.close()

    def _one(self, client, marker):
        try:
            code, _ = client.docmd("MAIL FROM:<alice@example.org>")
        except smtplib.SMTPServerDisconnected:
            return 421 # that came while the session was idle, and a reset of the connection has swept it away
        if code == 250:
            code, _ = client.docmd("RCPT TO:<bob@example.com>")
        if code == 250:
            code, _ = client.data(message(marker))
        return code

    def _come_back(self, client):
        client.close()
        with self.mutex:
            self.n_returns += 1
        return None

    def count(self):
        with self.mutex:
            return len(self.acknowledged)

    def wait_for_more(self, n=60, seconds=20):
        """So many further messages get through."""
        before = self.count()
        wait_for(f"{n} more messages under load", lambda: self.problems or self.count() >= before + n, seconds)
        if self.problems:
            raise Failure("; ".join(self.problems[:3]))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stopping.set()

    def finish(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(40)
        if self.problems:
            raise Failure("; ".join(self.problems[:3]))
        return self.acknowledged
