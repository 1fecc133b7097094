"""AUTH (RFC 4954): PLAIN, LOGIN and XOAUTH2, over an encrypted connection or over loopback, never else."""

from __future__ import annotations

import base64

from probes.canary.replies import Reply
from probes.canary.session import Broken, Refused, Session
from probes.canary.submission import Reason
from probes.canary.ways import Relay, is_loopback
from probes.errors import MailcanaryError

_HIDDEN = "[secret]"


async def login(session: Session, relay: Relay) -> None:
    """Logs in where the relay has a login. Raises Refused where it is refused, Broken where it cannot be
    tried."""
    if not relay.username:
        return
    if not session.encrypted and not (relay.security == "none" and is_loopback(session.record.peer_ip)):
        raise Broken("auth", Reason.CLEARTEXT, "no login over an unencrypted connection")
    if relay.password:
        _hide(session, relay, relay.password)
    if relay.oauth2 is not None:
        reply = await _xoauth2(session, relay)
    elif "plain" in session.auth_methods:
        reply = await _plain(session, relay)
    elif "login" in session.auth_methods:
        reply = await _login(session, relay)
    else:
        offered = " ".join(sorted(session.auth_methods)) or "none"
        raise Broken("auth", Reason.AUTH, f"the relay offers no AUTH we speak (it offers: {offered})")
    if reply.code != 235:
        raise Refused(reply)


def _hide(session: Session, relay: Relay, secret: str) -> None:
    """From here on no transcript or text shows the credential, in whatever form a server may echo it."""
    session.record.hide(secret)
    session.record.hide(f"\0{relay.username}\0{secret}")


def _coded(text: str) -> bytes:
    return base64.b64encode(text.encode("utf-8"))


async def _plain(session: Session, relay: Relay) -> Reply:
    coded = _coded(f"\0{relay.username}\0{relay.password}")
    return await session.command("auth", b"AUTH PLAIN " + coded, shown=f"AUTH PLAIN {_HIDDEN}")


async def _login(session: Session, relay: Relay) -> Reply:
    reply = await session.command("auth", b"AUTH LOGIN")
    for text in (relay.username, relay.password):
        if reply.code != 334:
            return reply
        reply = await session.command("auth", _coded(text), shown=_HIDDEN)
    return reply


async def _xoauth2(session: Session, relay: Relay) -> Reply:
    if "xoauth2" not in session.auth_methods:
        raise Broken("auth", Reason.AUTH, "the relay does not offer XOAUTH2")
    if relay.oauth2 is None:
        raise Broken("auth", Reason.AUTH, "no source of access tokens")
    try:
        async with session.stage("auth", session.timeouts.command):
            access = await relay.oauth2()
    except MailcanaryError as error:
        raise Broken("auth", Reason.AUTH, session.record.clean(str(error))) from error
    text = f"user={relay.username}\x01auth=Bearer {access}\x01\x01"
    _hide(session, relay, access)
    session.record.hide(text)
    coded = _coded(text)
    reply = await session.command("auth", b"AUTH XOAUTH2 " + coded, shown=f"AUTH XOAUTH2 {_HIDDEN}")
    if reply.code == 334:  # the error as a challenge: an empty line asks for the verdict
        reply = await session.command("auth", b"")
    return reply
