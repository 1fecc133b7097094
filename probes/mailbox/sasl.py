"""Logging in: LOGIN, PLAIN (RFC 4616), XOAUTH2 and OAUTHBEARER (RFC 7628)."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Sequence
from typing import Final

from probes.errors import LoginRefused
from probes.mailbox.access import MailboxAccess, Password
from probes.mailbox.commands import Answer, CommandRefused
from probes.mailbox.parse import Code, printable
from probes.mailbox.protocol import HardenedProtocol

_TOO_MANY: Final = re.compile(
    r"(?:maximum number of|too many)\b.{0,40}\b(?:connections|sessions|logins)", re.IGNORECASE
)


def quoted(text: str) -> str:
    """An IMAP quoted string (RFC 3501 section 4.3). CR, LF, NUL and 8-bit text need a literal instead."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def needs_literal(text: str) -> bool:
    """Whether a quoted string cannot carry it."""
    return not text.isascii() or any(char in text for char in "\r\n\0")


async def log_in(protocol: HardenedProtocol, access: MailboxAccess) -> None:
    """Authenticates by the best way that both sides know; raises LoginRefused with the server's words, less
    the secret, which some servers repeat."""
    secrets: list[str] = []
    try:
        await _log_in(protocol, access, secrets)
    except LoginRefused as error:
        raise LoginRefused(hidden(error.detail, secrets), **error.facts) from None


def hidden(text: str, secrets: Sequence[str]) -> str:
    """Text without the secrets and their base64, whole or cut off at its end."""
    coded = [b64encode(secret.encode()).decode().rstrip("=") for secret in secrets]
    for secret in sorted(filter(None, (*secrets, *coded)), key=len, reverse=True):
        text = text.replace(secret, "[secret]")
        for length in range(len(secret) - 1, 3, -1):
            if text.endswith(secret[:length]):
                text = text[:-length] + "[secret]"
                break
    return text


async def _log_in(protocol: HardenedProtocol, access: MailboxAccess, secrets: list[str]) -> None:
    if isinstance(access.credential, Password):
        secret = f"\0{access.username}\0{access.credential.text}"
        secrets += [access.credential.text, secret]
        if "AUTH=PLAIN" in protocol.capabilities:
            await _authenticate(protocol, access, "PLAIN", secret.encode(), b"*\r\n")
        elif "LOGINDISABLED" in protocol.capabilities:
            raise LoginRefused("the server offers no password login here", reason="login-refused")
        else:
            await _login(protocol, access, access.credential)
        return
    try:
        token = await access.credential.token()
        secrets.append(token)
        await _by_token(protocol, access, token)
    except LoginRefused:
        access.credential.invalidate()
        raise


async def _by_token(protocol: HardenedProtocol, access: MailboxAccess, token: str) -> None:
    if "AUTH=OAUTHBEARER" in protocol.capabilities and "AUTH=XOAUTH2" not in protocol.capabilities:
        head = f"n,a={access.username},\1host={access.host}\1port={access.port}\1"
        await _authenticate(
            protocol, access, "OAUTHBEARER", f"{head}auth=Bearer {token}\1\1".encode(), b"AQ==\r\n"
        )
    else:
        secret = f"user={access.username}\1auth=Bearer {token}\1\1"
        await _authenticate(protocol, access, "XOAUTH2", secret.encode(), b"\r\n")


async def _login(protocol: HardenedProtocol, access: MailboxAccess, password: Password) -> None:
    values = (access.username, password.text)
    try:
        if any(map(needs_literal, values)):
            user, secret = (value.encode() for value in values)
            answers = (user + b" {%d}\r\n" % len(secret), secret + b"\r\n")
            await protocol.command("LOGIN", f"{{{len(user)}}}", timeout=access.timeout, answers=answers)
        else:
            await protocol.command("LOGIN", *map(quoted, values), timeout=access.timeout)
    except CommandRefused as error:
        raise refused(error.code, "LOGIN") from None


async def _authenticate(
    protocol: HardenedProtocol, access: MailboxAccess, mechanism: str, secret: bytes, give_up: bytes
) -> None:
    """One AUTHENTICATE. An error challenge (RFC 7628 section 3.2.2) is answered, or the server waits for
    ever."""
    packed = b64encode(secret)
    args: tuple[str, ...]
    answers: tuple[bytes, ...]
    if "SASL-IR" in protocol.capabilities and len(packed) < 7_000:
        args, answers = (mechanism, packed.decode()), (give_up, b"*\r\n")
    else:
        args, answers = (mechanism,), (packed + b"\r\n", give_up, b"*\r\n")
    answer, challenges = await protocol.challenged(
        "AUTHENTICATE", *args, timeout=access.timeout, answers=answers
    )
    if answer.status != "OK":
        raise refused(answer.code, mechanism, _told(challenges), answer)


def _told(challenges: list[bytes]) -> str:
    """The status in an OAuth error challenge: {"status":"401","schemes":"bearer",...}."""
    for challenge in reversed(challenges):
        try:
            said = json.loads(b64decode(challenge, validate=True))
        except (Error, ValueError, RecursionError):
            continue
        if isinstance(said, dict) and "status" in said:
            return f" (status {printable(str(said['status']).encode(), 40)})"
    return ""


def refused(code: Code, how: str, more: str = "", answer: Answer | None = None) -> LoginRefused:
    """The error for a refused login, with the closed word `reason`: login-refused, limited or unavailable."""
    told = f"[{code.name}] " if code.name else ""
    return LoginRefused(f"{how}: {told}{code.text}{more}", reason=_reason(code))


def _reason(code: Code) -> str:
    """Dovecot says of a user's session too many that it is UNAVAILABLE: what it means is in its words."""
    if code.name == "UNAVAILABLE":
        return "limited" if _TOO_MANY.search(code.text) else "unavailable"
    return "limited" if code.name in ("LIMIT", "INUSE", "OVERQUOTA") else "login-refused"
