# SPDX-License-Identifier: LGPL-2.1-or-later
"""TLS and passwords under systemd: credentials, and the accounts of the system by way of PAM, with all cages on."""

import smtplib
import ssl
import subprocess

from checks import check, check_equal, test, wait_for
from tests_basic import SMTPD, configure, journal

PASSWORD = "Correct-Horse-7391"
PAM_SOCKET = "emailrelay-pam.socket"


def client_context():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def certificate(container, path):
    """A certificate with its key, in one file that root alone can read."""
    key = container.path(path)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", key + ".crt", "-days", "2", "-subj", "/CN=relay.example", "-addext",
                    "subjectAltName=DNS:relay.example"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    with open(key + ".crt") as file:
        text = file.read()
    with open(key, "a") as file:
        file.write(text)
    container.run("chmod", "600", path)


def connect(tls=True):
    client = smtplib.SMTP("127.0.0.1", 25, timeout=30)
    client.ehlo()
    if tls:
        client.starttls(context=client_context())
        client.ehlo()
    return client


def login(user, password):
    """The code that the server answers with."""
    client = connect()
    try:
        return client.login(user, password)[0]
    except smtplib.SMTPAuthenticationError as error:
        return error.smtp_code
    finally:
        client.close()


def restart(world, *lines):
    configure(world, *lines)
    world.container.systemctl("enable", "--now", "emailrelay-smtp.socket")
    world.container.systemctl("restart", SMTPD)


@test("certificate and secrets come as credentials")
def _(world):
    container = world.container
    certificate(container, "/root/tls.pem")
    container.write("/root/secrets", f"server plain alice {PASSWORD}\n", mode=0o600)
    container.drop_in(SMTPD, "[Service]\nLoadCredential=tls.pem:/root/tls.pem\nLoadCredential=secrets:/root/secrets\n",
                      name="60-credentials")
    restart(world, "server-tls", "server-tls-certificate = tls.pem", "server-auth = secrets", "server-tls-required")
    client = connect(tls=False)
    check("auth" not in client.esmtp_features, "AUTH is offered in clear although TLS is required")
    client.close()
    check_equal("the right password", login("alice", PASSWORD), 235)
    check_equal("a wrong password", login("alice", "wrong"), 535)
    client = connect()
    client.login("alice", PASSWORD)
    client.sendmail("from@relay.example", "to@relay.example", "Subject: by-credential\r\n\r\nx\r\n")
    client.quit()
    records = journal(world, "-u", SMTPD, "EMAILRELAY_AUTH=alice")
    check(any(record.get("EMAILRELAY_MECHANISM") for record in records), "the journal does not tell the mechanism")


@test("port 465 speaks TLS from the beginning, and port 25 stays open")
def _(world):
    container = world.container
    container.systemctl("enable", "emailrelay-smtps.socket")
    container.systemctl("restart", "emailrelay-smtps.socket")
    client = smtplib.SMTP_SSL("127.0.0.1", 465, timeout=30, context=client_context())
    client.login("alice", PASSWORD)
    client.sendmail("from@relay.example", "to@relay.example", "Subject: by-port-465\r\n\r\nx\r\n")
    client.quit()
    check_equal("port 25", login("alice", PASSWORD), 235)
    container.systemctl("disable", "--now", "emailrelay-smtps.socket")
    container.systemctl("restart", SMTPD)


@test("a certificate is in the log until it runs out")
def _(world):
    wait_for("the certificate in the journal",
             lambda: any("server certificate in use: CN=relay.example" in record.get("MESSAGE", "")
                         for record in journal(world, "-u", SMTPD)))


@test("PAM knows the accounts of the system")
def _(world):
    container = world.container
    container.run("useradd", "--create-home", "pamuser")
    container.run("chpasswd", input=f"pamuser:{PASSWORD}\n")
    container.systemctl("enable", "--now", PAM_SOCKET)
    restart(world, "server-tls", "server-tls-certificate = tls.pem", "server-auth = pam:")
    client = connect(tls=False)
    check("PLAIN" not in client.esmtp_features.get("auth", ""), "passwords of the system are taken in clear")
    client.close()
    check_equal("the right password", login("pamuser", PASSWORD), 235)
    check_equal("a wrong password", login("pamuser", "wrong-1"), 535)
    check_equal("nobody", login("nobody-here", PASSWORD), 535)
    check_equal("no password", login("pamuser", ""), 535)


@test("an account that has expired does not get in")
def _(world):
    container = world.container
    container.run("chage", "--expiredate", "2001-01-01", "pamuser")
    check_equal("expired", login("pamuser", PASSWORD), 535)
    container.run("chage", "--expiredate", "-1", "pamuser")
    check_equal("no more", login("pamuser", PASSWORD), 235)


@test("without pamd a login is put off, not refused")
def _(world):
    container = world.container
    container.systemctl("stop", PAM_SOCKET)
    check_equal("pamd is away", login("pamuser", PASSWORD), 454)
    container.systemctl("start", PAM_SOCKET)
    check_equal("pamd is back", login("pamuser", PASSWORD), 235)


@test("no password is in the journal, in a status or on a command line")
def _(world):
    container = world.container
    container.run("journalctl", "--sync", check=False)
    for what, command in (("journal", ["journalctl", "--no-pager", "-o", "json"]),
                          ("status", ["systemctl", "status", "--no-pager", "emailrelay*"]),
                          ("processes", ["sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null"])):
        out = container.run(*command, check=False).stdout
        check(len(out) > 0, f"{what}: nothing was found at all")
        check(PASSWORD not in out, f"the password is in the {what}")


@test("authentication is put away again")
def _(world):
    container = world.container
    container.drop_in(SMTPD, None, name="60-credentials")
    container.systemctl("disable", "--now", PAM_SOCKET)
    configure(world, "idle-exit = 30s")
    container.systemctl("restart", SMTPD)
