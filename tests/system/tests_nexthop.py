# SPDX-License-Identifier: LGPL-2.1-or-later
"""A smarthost with TLS and a password, as providers have it: Postfix with Cyrus SASL on a submission port and on one that begins
with TLS, and the relay with its vendor defaults, which believe no certificate that the system does not trust."""

import peers
from checks import check, check_equal, test, wait_for
from tests_basic import FORWARD, queue

LOCAL = "/etc/emailrelay/emailrelay.conf.d/60-nexthop-test.conf"
SECRETS = "/etc/emailrelay/smarthost"


def configure(world, *lines, host=peers.Submission.HOST, port=peers.Submission.PORT, password="right-9"):
    """What README says about a smarthost with a password. The forwarder is started anew by the next message."""
    container = world.container
    container.write(SECRETS, f"client plain bob {password}\n", 0o600)
    container.write(LOCAL, f"forward-to = {host}:{port}\nclient-auth = smarthost\n" + "".join(f"{line}\n" for line in lines))
    container.drop_in(FORWARD, f"[Service]\nLoadCredential=smarthost:{SECRETS}\n", "60-nexthop-test")
    container.systemctl("stop", FORWARD)


def forget(world):
    world.container.remove(LOCAL)
    world.container.remove(SECRETS)
    world.container.drop_in(FORWARD, None, "60-nexthop-test")
    world.container.systemctl("stop", FORWARD)


def forward_log(world, text):
    out = world.container.run("journalctl", "--no-pager", "-o", "cat", "-u", FORWARD).stdout
    return text in out


@test("a smarthost wants TLS and a password")
def _(world):
    container = world.container
    container.systemctl("enable", "--now", "emailrelay-smtp.socket", "emailrelay-forward.timer")
    world.submission = peers.Submission(container)
    configure(world, "client-tls-required")
    peers.send(25, "with-a-password.")
    world.postfix.wait_for("with-a-password.")
    check("Authenticated sender: bob" in world.postfix.mailbox(), "Postfix knows no sender")


@test("every mechanism of Cyrus SASL, by STARTTLS and with TLS from the beginning")
def _(world):
    for mechanism in ("plain", "login", "cram-md5", "scram-sha-1", "scram-sha-256"):
        for port, option in ((peers.Submission.PORT, "client-tls-required"), (peers.Submission.TLS_PORT, "client-tls-connection")):
            marker = f"{mechanism}-at-{port}."
            configure(world, option, f"client-auth-config = {mechanism}", port=port)
            before = world.submission.logins(mechanism)
            peers.send(25, marker)
            world.postfix.wait_for(marker)
            check(world.submission.logins(mechanism) > before, f"Postfix has seen no {mechanism}")


@test("without a choice the strongest mechanism is used")
def _(world):
    configure(world, "client-tls-required")
    before = world.submission.logins("scram-sha-256")
    peers.send(25, "strongest.")
    world.postfix.wait_for("strongest.")
    check(world.submission.logins("scram-sha-256") > before, "it was another one")


def check_waits(world, marker, complaint):
    """The message stays, for this reason, and Postfix hears nothing of it; afterwards it is delivered by another configuration."""
    n_logins = world.submission.logins("")
    reply = peers.send(25, marker)
    wait_for(f"the log says {complaint}", lambda: forward_log(world, complaint))
    wait_for(f"{marker} is waiting", lambda: peers.queue_id(reply) in queue(world))
    check(marker not in world.postfix.mailbox(), f"{marker} got through")
    check_equal("logins", world.submission.logins(""), n_logins)
    configure(world, "client-tls-required")
    world.container.run("emailrelayctl", "forward", peers.queue_id(reply))
    world.postfix.wait_for(marker)


@test("a wrong password is a failure that passes")
def _(world):
    configure(world, "client-tls-required", password="wrong-9")
    check_waits(world, "wrong-password.", "authentication failed using mechanism")
    check(not forward_log(world, "wrong-9"), "the password is in the journal")


@test("the certificate must be for the host")
def _(world):
    configure(world, "client-tls-required", host="other.example")
    check_waits(world, "other-host.", "and not for other.example")


@test("the certificate must be of an authority that this system trusts")
def _(world):
    world.submission.trust(False)
    configure(world, "client-tls-required")
    reply = peers.send(25, "untrusted.")
    wait_for("the log says so", lambda: forward_log(world, "was not issued by an authority that is trusted"))
    check("untrusted." not in world.postfix.mailbox(), "it got through")
    world.submission.trust(True)
    configure(world, "client-tls-required")
    world.container.run("emailrelayctl", "forward", peers.queue_id(reply))
    world.postfix.wait_for("untrusted.")
    forget(world)
