# SPDX-License-Identifier: LGPL-2.1-or-later
"""Mail is read by POP3, under systemd: its sockets, certificate and secrets as credentials, accounts of the system, a cage in
which messages can be deleted and mailboxes made, and nothing else."""

import contextlib
import os
import poplib
import socket
import stat

import peers
from checks import check, check_equal, test, wait_for
from tests_auth import PAM_SOCKET, PASSWORD, certificate, client_context
from tests_basic import CONFIG, SMTPD, SPOOL, configure, journal, listening, queue
from tests_change import no_forwarding

POPD = "emailrelay-pop.service"
POP_SOCKET = "emailrelay-pop.socket"
POPS_SOCKET = "emailrelay-pops.socket"
INSTANCE = "emailrelay-pop@reader"
SECRET = "Staple-Battery-2846"
SECURE = ("server-tls", "server-tls-certificate = tls.pem", "pop-auth = secrets")


@contextlib.contextmanager
def session(user="alice", secret=SECRET, port=110, host="127.0.0.1"):
    """After STLS, or on port 995 in TLS from the beginning. Marks that were set are carried out at the end."""
    if port == 995:
        client = poplib.POP3_SSL(host, port, timeout=30, context=client_context())
    else:
        client = poplib.POP3(host, port, timeout=30)
        client.stls(client_context())
    try:
        client.user(user)
        client.pass_(secret)
        yield client
        client.quit()
    finally:
        client.close()


def refusal(*arguments, **keywords):
    """What a login is refused with, "" when it is not."""
    try:
        with session(*arguments, **keywords):
            return ""
    except poplib.error_proto as error:
        return error.args[0].decode()


def text_of(client, number):
    return b"\n".join(client.retr(number)[1]).decode()


def empty_spool(world):
    for name in queue(world):
        for suffix in ("envelope", "content"):
            world.container.remove(f"{SPOOL}/{name}.{suffix}")


def reload(world, *lines):
    configure(world, "idle-exit = 30s", *lines)
    world.container.systemctl("reload", POPD)


@test("the cage of the POP3 server is as tight as promised")
def _(world):
    for unit in (POPD, f"{INSTANCE}.service"):
        result = world.container.run("systemd-analyze", "security", "--threshold=4", unit, check=False)
        check(result.returncode == 0, f"{unit}: {result.stdout.strip().splitlines()[-1:]}")


@test("port 110 starts the POP3 server, over IPv4 and IPv6")
def _(world):
    container = world.container
    certificate(container, "/root/pop.pem")
    container.write("/root/pop-secrets", f"server plain alice {SECRET}\nserver plain bob {SECRET}\n", mode=0o600)
    for unit in (POPD, SMTPD): # which read the same options
        container.drop_in(unit, "[Service]\nLoadCredential=tls.pem:/root/pop.pem\n"
                          "LoadCredential=secrets:/root/pop-secrets\n", name="60-credentials")
    configure(world, "idle-exit = 30s", *SECURE)
    container.systemctl("restart", SMTPD)
    container.systemctl("enable", "--now", POP_SOCKET)
    check_equal("the server before the first client", container.pid(POPD), 0)
    check(listening(world, 110) and not listening(world, 995), "port 110 is closed, or 995 is open")
    for host in ("127.0.0.1", "::1"):
        with session(host=host) as client:
            check("IMPLEMENTATION" in client.capa(), "no capabilities")
    check(container.pid(POPD) > 0, "it does not run")


@test("passwords of POP3 clients are not taken in clear")
def _(world):
    reload(world, "server-tls-required", *SECURE)
    client = poplib.POP3("127.0.0.1", 110, timeout=30)
    capabilities = client.capa()
    check("STLS" in capabilities and "USER" not in capabilities and "SASL" not in capabilities, f"{capabilities}")
    try:
        client.user("alice")
        check(False, "USER is taken in clear")
    except poplib.error_proto as error:
        check(b"STLS" in error.args[0], f"{error}")
    client.close()
    check_equal("in TLS", refusal(), "")
    reload(world, *SECURE)


@test("a caged POP3 server shows what is in the spool, and deletes it")
def _(world):
    with no_forwarding(world):
        empty_spool(world)
        first, second = (peers.queue_id(peers.send(25, marker)) for marker in ("for-pop-one.", "for-pop-two."))
        with session() as client:
            check_equal("messages", client.stat()[0], 2)
            check_equal("unique ids", [line.split()[1].decode() for line in client.uidl()[1]],
                        [f"{first}.content", f"{second}.content"])
            check("for-pop-two." in text_of(client, 2), "the wrong message")
            check_equal("the size", int(client.list(2).split()[2]),
                        os.stat(world.container.path(f"{SPOOL}/{second}.content")).st_size)
            client.dele(1)
        check_equal("what is left", queue(world), [second])
        check_equal("its files", [name for name in world.container.list(SPOOL) if first in name], [])
        records = journal(world, "-u", POPD, f"EMAILRELAY_MSGID={first}")
        check(any(record.get("EMAILRELAY_AUTH") == "alice" for record in records), "the journal does not tell who")
        empty_spool(world)


@test("port 995 speaks TLS from the beginning, and port 110 stays open")
def _(world):
    container = world.container
    container.systemctl("enable", POPS_SOCKET)
    container.systemctl("restart", POPS_SOCKET)
    with session(port=995) as client:
        check_equal("messages", client.stat(), (0, 0))
    check_equal("a wrong password", refusal(secret="wrong", port=995), "-ERR [AUTH] authentication failed")
    with session():
        pass
    status = container.run("emailrelayctl", "status").stdout
    check("popd" in status and "pops" in status, f"the status does not know it: {status}")
    container.systemctl("disable", "--now", POPS_SOCKET)
    check(not listening(world, 995), "port 995 is still open")
    with session():
        pass


@test("curl, mpop and fetchmail read mail from the service")
def _(world):
    container = world.container
    container.write("/root/fetchmailrc", "poll localhost protocol POP3 user alice password "
                    f"{SECRET} sslproto 'tls1.2+' no sslcertck mda 'cat >>/root/fetched'\n", mode=0o600)
    container.write("/root/pop-password", SECRET + "\n", mode=0o600)
    with no_forwarding(world):
        for number, command in enumerate((
                ("curl", "--silent", "--show-error", "--insecure", "--ssl-reqd", "--user", f"alice:{SECRET}",
                 "pop3://127.0.0.1/1"),
                ("mpop", "--host=127.0.0.1", "--tls=on", "--tls-starttls=on", "--tls-certcheck=off", "--user=alice",
                 "--passwordeval=cat /root/pop-password", "--auth=user", "--delivery=mbox,/root/fetched", "--keep=off",
                 "--uidls-file=/root/uidls"),
                ("fetchmail", "-f", "/root/fetchmailrc", "--nosyslog", "--idfile", "/root/fetchids", "--nokeep"))):
            marker = f"for-program-{number}."
            empty_spool(world)
            container.remove("/root/fetched")
            peers.send(25, marker)
            out = container.run(*command).stdout
            check(marker in (out if number == 0 else container.read("/root/fetched")), f"{command[0]} got {out!r}")
            check_equal(f"messages that {command[0]} has left", len(queue(world)), 1 if number == 0 else 0)
        empty_spool(world)


@test("with pop-by-name a caged server makes mailboxes")
def _(world):
    container = world.container
    mailbox = f"{SPOOL}/alice"
    reload(world, "pop-by-name", *SECURE)
    with no_forwarding(world):
        name = peers.queue_id(peers.send(25, "for-alice."))
        with session() as client:
            check_equal("messages of a new mailbox", client.stat(), (0, 0))
        status, spool = (os.stat(container.path(path)) for path in (mailbox, SPOOL))
        check_equal("the mailbox", (status.st_uid, status.st_gid, oct(stat.S_IMODE(status.st_mode))),
                    (spool.st_uid, spool.st_gid, "0o2770"))
        # what a filter does: envelopes for two readers, one content in the spool
        with session("bob"):
            pass
        for user in ("alice", "bob"):
            container.run("cp", "-p", f"{SPOOL}/{name}.envelope", f"{SPOOL}/{user}/")
        container.remove(f"{SPOOL}/{name}.envelope")
        with session() as client:
            check("for-alice." in text_of(client, 1), "the wrong message")
            client.dele(1)
        check_equal("the shared content", queue(world), [name])
        with session("bob") as client:
            check("for-alice." in text_of(client, 1), "the wrong message")
            client.dele(1)
        check_equal("the shared content, which nobody needs", queue(world), [])
    check_equal("what is in the mailbox", [name for name in container.list(mailbox) if name != ".lock"], [])
    for user in ("alice", "bob"):
        container.run("rm", "-r", f"{SPOOL}/{user}")


@test("a configuration that is wrong is refused, and mail is read as before")
def _(world):
    container = world.container
    configure(world, "pop-by-nme", *SECURE)
    result = container.systemctl("reload", POPD, check=False)
    check(result.returncode != 0, "the reload did not fail")
    with session():
        pass
    check("pop-by-name" in container.run("journalctl", "--no-pager", "-u", POPD, "-n", "20").stdout,
          "the journal does not name the nearest option")
    reload(world, *SECURE)


@test("the POP3 server knows the accounts of the system")
def _(world):
    container = world.container
    container.systemctl("enable", "--now", PAM_SOCKET)
    reload(world, *SECURE[:2], "pop-auth = pam:")
    check_equal("the right password", refusal("pamuser", PASSWORD), "")
    check_equal("a wrong password", refusal("pamuser", "wrong-1"), "-ERR [AUTH] authentication failed")
    check_equal("nobody", refusal("nobody-here", PASSWORD), "-ERR [AUTH] authentication failed")
    container.systemctl("stop", PAM_SOCKET)
    check("[SYS/TEMP]" in refusal("pamuser", PASSWORD), "without pamd the login is refused for good")
    container.systemctl("disable", PAM_SOCKET)
    reload(world, *SECURE)


@test("a client of a POP3 server that stops is told, and loses nothing")
def _(world):
    container = world.container
    with no_forwarding(world):
        peers.send(25, "stays.")
        with contextlib.suppress(OSError, poplib.error_proto), session() as client: # it is too late for QUIT
            client.dele(1)
            container.systemctl("stop", POPD)
            line = client.file.readline()
            check(line.startswith(b"-ERR") and b"shutting down" in line, f"the session was ended with {line!r}")
            check_equal("what is said after that", client.file.readline(), b"")
        check_equal("the service", container.show(POPD, "Result"), "success")
        check_equal("messages after the stop", len(queue(world)), 1)
        with session() as client: # which starts it again
            check("stays." in text_of(client, 1), "the wrong message")
            client.dele(1)
        check_equal("messages", len(queue(world)), 0)


@test("a POP3 server that is killed keeps nobody out")
def _(world):
    container = world.container
    with socket.create_connection(("127.0.0.1", 110), timeout=30) as waiting:
        client = poplib.POP3("127.0.0.1", 110, timeout=30)
        client.stls(client_context())
        client.user("alice")
        client.pass_(SECRET)
        check("[IN-USE]" in refusal(), "two sessions delete side by side")
        pid = container.pid(POPD)
        container.kill(POPD, 9)
        client.close()
        check(waiting.recv(1000).startswith(b"+OK"), "no greeting")
    wait_for("it runs again", lambda: container.pid(POPD) not in (0, pid))
    check_equal("the next login", refusal(), "")


@test("an instance has its own POP3 port and spool")
def _(world):
    container = world.container
    container.write("/etc/emailrelay/reader.conf", "domain = reader.example\npop-auth = /etc/emailrelay/reader.auth\n")
    container.write("/etc/emailrelay/reader.auth", f"server plain carol {SECRET}\n", mode=0o640)
    container.run("chgrp", "emailrelay", "/etc/emailrelay/reader.auth")
    container.drop_in(f"{INSTANCE}.socket", "[Socket]\nListenStream=2110\n")
    container.systemctl("enable", "--now", f"{INSTANCE}.socket")
    client = poplib.POP3("127.0.0.1", 2110, timeout=30)
    check(b"@reader.example>" in client.getwelcome(), f"{client.getwelcome()}")
    client.apop("carol", SECRET)
    check_equal("messages", client.stat(), (0, 0))
    client.quit()
    container.systemctl("disable", "--now", f"{INSTANCE}.socket", f"{INSTANCE}.service")
    container.drop_in(f"{INSTANCE}.socket", None)


@test("no password of a POP3 client is in the journal")
def _(world):
    container = world.container
    container.run("journalctl", "--sync", check=False)
    out = container.run("journalctl", "--no-pager", "-o", "json").stdout
    check("pop login of alice" in out, "there is no login at all")
    check(SECRET not in out and PASSWORD not in out, "the password is in the journal")


@test("the POP3 server is put away again")
def _(world):
    container = world.container
    container.systemctl("disable", "--now", POP_SOCKET)
    container.systemctl("stop", POPD)
    for unit in (POPD, SMTPD):
        container.drop_in(unit, None, name="60-credentials")
    configure(world, "idle-exit = 30s")
    container.systemctl("restart", SMTPD)
    check_equal("the option file", "pop-auth" in container.read(CONFIG), False)
