"""Received fields (RFC 5321 section 4.4) as hops: who gave it to whom, how, encrypted or not, and when.

Every mail server writes its own dialect: Postfix and Sendmail `HELO (rdns [ip])`, Exim `rdns ([ip]
helo=HELO)`, qmail `rdns (HELO name) (ident@ip)`, Microsoft `name (ip)`. What is read depends on the words
alone, each looked at once; whatever cannot be read is None and nothing raises.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from probes.headers.dates import epoch, parse_time
from probes.headers.scan import decode

MAX_TEXT = 8 * 1024
SKEW_SECONDS = 2.0
"""A hop that seems to lie this far before the one below it shows clocks that disagree."""
SLOW_SECONDS = 60.0

# In brackets stand characters alone, no \w and no \s: those cost the regular expression engine twice as much.
_WORDS_OF_NOTES = "(?!(?=[TtSsCcEeXxIi])(?:{}|X\\.509))".format(  # no (?i:...): the engine is slow on it
    "|".join(
        "".join(f"[{letter}{letter.lower()}]" if letter.isupper() else letter for letter in word)
        for word in ("TLS", "SSL", "CIPHER", "(?:X-)?ENVELOPE-", r"IDENT(?=\s)")
    )
)
_NAME = rf"{_WORDS_OF_NOTES}[A-Za-z0-9_.-]{{5,255}}+"
_NOTE = r"(?:\s++\((?:No client certificate requested|Client did not present a certificate)\))?"
_WRITER = r"(?:\s++\((?:Postfix|[0-9]++\.[0-9]++\.[0-9]++/[0-9]++\.[0-9]++\.[0-9]++)\))?"
_SUITE = (
    r"([A-Za-z0-9_-]++)\s++\([0-9]++/[0-9]++\s++bits\)"
    r"(?:\s++(?:key-exchange|(?:server|client)-(?:signature|digest))\s++(?!HELO|EHLO|LHLO)[A-Z][A-Z0-9-]++"
    r"(?:\s++\((?:[0-9]++\sbits|P-[0-9]++|prime[0-9]++v1)\))?+)*+"
)
_USUAL = re.compile(
    rf"\s*+(?:from\s++({_NAME}|\[[0-9.]++\])"
    rf"(?:\s++\((?:(?![A-Za-z]{{2}}[Ll][Oo]\s)({_NAME})\s++)?\[(?:IPv6:)?([0-9A-Fa-f.:]++)\]\))?"
    rf"(?:\s++\(using\s++TLSv([0-9]\.[0-9])\s++with\s++cipher\s++{_SUITE}\))?{_NOTE}\s++)?"
    rf"by\s++((?![0-9.]++\s){_NAME}|[0-9A-Fa-f:]++(?!\s++\()){_WRITER}"
    r"(?:\s++with\s++((?:UTF8)?(?:E?SMTP|LMTP)S?A?))?"
    rf"(?:\s++id\s++{_WORDS_OF_NOTES}([A-Za-z0-9_.+-]{{5,}}+))?"
    r"(?:\s++\(envelope-from\s++<([!-'*-.0-;=?-~]*+)>\))?"
    rf"(?:\s++for\s++<{_WORDS_OF_NOTES}([A-Za-z0-9_.+=@-]*+)>)?"
    r"(?:\s++\(version=TLS([0-9]_[0-9])\s++cipher=([A-Za-z0-9_-]++)\s++bits=[0-9]++/[0-9]++\))?"
    r"\s*+;\s++(?:[A-Z][a-z][a-z],\s++)?([0-9]{1,2} [A-Z][a-z][a-z] [0-9]{4})"
    r" ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-][0-9]{4})(?:\s++\([A-Z]{1,5}\))?\s*+\Z"
)
_MARK = re.compile(
    r"\((?:[^()]++|\([^()]*+\))*+\)|(?<![^\s);])(from|by|with|id|for|via)(?=\s)", re.IGNORECASE
)
_COMMENT = re.compile(r"\s*\((?:[^()]++|\((?:[^()]++|\([^()]*+\))*+\))*+\)")
_WORD = re.compile(r"[^\s(;,]+")
_UNDATED = re.compile(
    r"(?:[A-Z][a-z]{2,8},? )?\d{1,2} [A-Z][a-z]{2} \d{4} \d{1,2}:\d{2}|\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}"
)
_BRACKETED = re.compile(
    r"(?<![\s(]helo[ =])\[(?:IPv6:)?(\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}:[0-9a-f:.]{1,41})[^\]\s]{0,20}\]",
    re.IGNORECASE,
)
_V4 = re.compile(r"(?<![\w.?=-])(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(?![\w?-]|\.\w)")
_V6 = re.compile(r"(?<![\w:.])([0-9a-f]{0,4}:[0-9a-f:]{1,40}(?:\.\d{1,3}){0,3})(?![\w:.])", re.IGNORECASE)
_HELO = re.compile(r"[\s(](?:(?:helo|ehlo|lhlo)(?:=|\s+)|claiming to be \")([^\s()\"]*)", re.IGNORECASE)
_INSIDE = re.compile(r"\(\s*([^\s()\[\]]+)\s*\(?\[")
_LONE = re.compile(r"\((?:([^\s()\[\]]+)@)?\[?[0-9a-f.:]+\]?\)", re.IGNORECASE)
_IDENT = re.compile(r"(?<![\w.-])ident[= ](?:using )?([^\s()]+)", re.IGNORECASE)
_IDENT_AT = re.compile(
    r"\(([^\s()\[\]]+)@(?:\[?[0-9a-f.:]{3,45}\]?|localhost|[\w.-]+(?= \[))[\s)]", re.IGNORECASE
)
_ENVELOPE = re.compile(r"(?<![\w.+=@-])(?:x-)?envelope-(?:from|sender)[:\s=]\s*<?([^\s<>()]*)", re.IGNORECASE)
_TLS_VERSION = re.compile(
    r"(?<![\w.+-])(?:version=|using )?((?:TLS|SSL)[ _v-]{0,2}\d(?:[._]\d)?)\b(?!\.\w)", re.IGNORECASE
)
_CIPHER = re.compile(
    r"(?:(?<![\w.+=-])cipher[ =]|TLS/|TLS-?1(?:[._]\d)?:|TLS1_\d:|SSLv\d:)\s*"
    r"(?:(?:TLS|SSL)[v-]?\d(?:\.\d)?:)?"
    r"([A-Za-z0-9][\w-]{0,80})|[\s(]([\w-]{5,80}) encrypted|bits, ?([\w-]{5,80})",
    re.IGNORECASE,
)
_WEB = re.compile(r"[ (](?:with|via) HTTP")
_NOT_NAMES = frozenset(
    ("unknown", "unverified", "softdnserr", "verified", "unavailable", "nodnsquery", "may")
)
_SECURE = frozenset(
    ("ESMTPS", "ESMTPSA", "SMTPS", "LMTPS", "LMTPSA", "HTTPS", "UTF8SMTPS", "UTF8SMTPSA", "UTF8LMTPS",
     "UTF8LMTPSA", "IMAPS", "POP3S", "ASMTPS")
)  # fmt: skip
_PLAIN = frozenset(
    ("SMTP", "ESMTP", "ESMTPA", "LMTP", "LMTPA", "HTTP", "UTF8SMTP", "UTF8SMTPA", "ASMTP", "POP3", "IMAP",
     "MICROSOFT SMTP SERVER", "MICROSOFT SMTPSVC")
)  # fmt: skip
_LOCAL_DELIVERY = frozenset(("LMTP", "LMTPS", "LMTPA", "LMTPSA", "UTF8LMTP", "UTF8LMTPS"))


class Hop(NamedTuple):
    """One Received field. None stands for what it does not say.

    from_name: the word after `from`; helo: the name the client gave itself; rdns: the name its address has;
    ip: its address; by, by_ip: who wrote the field; protocol: the word after `with` ("ESMTPS"); encrypted:
    None where it cannot be told; time: seconds since the epoch; clauses: the text of every clause, comments
    and all.
    """

    from_name: str | None
    helo: str | None
    rdns: str | None
    ip: str | None
    by: str | None
    by_ip: str | None
    protocol: str | None
    id: str | None
    recipient: str | None
    via: str | None
    envelope_from: str | None
    ident: str | None
    tls_version: str | None
    cipher: str | None
    encrypted: bool | None
    time: float | None
    raw: str

    @property
    def text(self) -> str:
        """The value unfolded."""
        return " ".join(self.raw.split())

    @property
    def clauses(self) -> dict[str, str]:
        """The text of every clause by its keyword, comments and all."""
        return _clauses(_split_time(self.text)[0])

    @property
    def local_delivery(self) -> bool:
        """Whether it is the hand-over to the mailbox server of the same house (LMTP)."""
        return (self.protocol or "").upper() in _LOCAL_DELIVERY


_new = tuple.__new__  # what NamedTuple's constructor does, at half its cost


def parse_received(raw: bytes | str) -> Hop:
    """Reads one Received value, in linear time."""
    text = decode(raw[:MAX_TEXT]) if isinstance(raw, bytes) else raw[:MAX_TEXT]
    usual = _USUAL.match(text)
    return (_usual(text, usual) if usual is not None else None) or _any(text)


def _usual(raw: str, found: re.Match[str]) -> Hop | None:
    """What Postfix and Google write, at a quarter of the cost; None for everything with a turn of its own.
    What it reads, `_any` reads likewise."""
    (name, rdns, address, tls, cipher, by, protocol, id_, envelope, recipient, version, suite,
     day, hour, minute, second, zone) = found.groups()  # fmt: skip
    ip = None
    if address is not None:
        ip = normal_ip(address)
        if ip is None or (rdns is None and (name == ip or name[0] == "[")):
            return None
        if rdns == ip or (rdns is not None and rdns.lower() in _NOT_NAMES):
            rdns = None
    elif name is not None and (name[0] in "[0123456789" or name.lower() in _NOT_NAMES):
        return None
    stamp = epoch(day, hour, minute, second, zone)
    if stamp is None:
        return None
    if tls is not None:
        if suite is not None:
            return None
    elif version is not None:
        tls, cipher = version.replace("_", "."), suite
    return _new(
        Hop,
        (
            name,
            name,
            rdns,
            ip,
            by,
            None,
            protocol,
            id_,
            recipient or None,
            None,
            envelope,
            None,
            None if tls is None else f"TLS{tls}",
            cipher,
            True if tls is not None else _encrypted(protocol, None, ip, ""),
            stamp,
            raw,
        ),
    )


def _any(raw: str) -> Hop:
    """Every other order and dialect, clause by clause."""
    text = " ".join(raw.split())
    head, stamp = _split_time(text)
    clauses = _clauses(head)
    from_text = clauses.get("from")
    from_name = helo = rdns = ip = ident = None
    if from_text is not None:
        from_name = _word(from_text)
        said = _HELO.search(from_text)
        ip = find_ip(from_text if said is None else from_text[: said.start()] + " " + from_text[said.end() :])
        helo, rdns = _names(from_name, from_text, ip, said, head)
        ident = _ident(from_text)
    by_text = clauses.get("by")
    with_text = clauses.get("with")
    protocol = _protocol(with_text) if with_text else None
    version, cipher = _tls(head)
    envelope = _ENVELOPE.search(text) if "nvelope-" in text else None
    return Hop(
        from_name,
        helo,
        rdns,
        ip,
        _word(by_text) if by_text else None,
        find_ip(by_text) if by_text and ("(" in by_text or "[" in by_text) else None,
        protocol,
        _angle(clauses.get("id")),
        _angle(clauses.get("for")),
        clauses.get("via"),
        envelope[1] if envelope else _angle(clauses.get("sender")),
        ident,
        version,
        cipher,
        _encrypted(protocol, version or cipher, ip, head),
        stamp,
        raw,
    )


def _split_time(text: str) -> tuple[str, float | None]:
    """The clauses, and the time that follows the last semicolon, or that stands at the end without one."""
    at = text.rfind(";")
    if at >= 0:
        stamp = parse_time(text[at + 1 :])
        if stamp is not None:
            return text[:at] + _after_time(text[at:]), stamp
    found = next(reversed([*_UNDATED.finditer(text, max(0, len(text) - 200))]), None)
    if found is None:
        return (text[:at] if text.endswith(";") else text), None
    return text[: found.start()], parse_time(text[found.start() :])


def _after_time(tail: str) -> str:
    """Clauses that some writers put behind the time."""
    found = _MARK.search(tail) if len(tail) > 40 else None
    while found is not None and found[1] is None:
        found = _MARK.search(tail, found.end())
    return " " + tail[found.start() :] if found is not None else ""


def _clauses(head: str) -> dict[str, str]:
    """Each keyword outside of comments starts a clause; a repeated one is joined on with "; ", a second
    `from` (who the sender was, in some dialects) is left out."""
    clauses: dict[str, str] = {}
    if head.startswith("(from "):
        head = head[1:].replace(")", "", 1)
    name, start = "", 0
    for mark in _MARK.finditer(head):
        word = mark[1]
        if word is None:
            continue
        if name:
            _keep(clauses, name, head[start : mark.start()])
        name, start = word.lower(), mark.end()
    if name:
        _keep(clauses, name, head[start:])
    return clauses


def _keep(clauses: dict[str, str], name: str, text: str) -> None:
    text = text.strip(" ;")
    if name == "from":
        clauses.setdefault("sender" if clauses else "from", text)
        return
    known = clauses.get(name)
    if known is None:
        clauses[name] = text
    elif text:
        clauses[name] = f"{known}; {text}"


def _word(text: str) -> str | None:
    found = _WORD.match(text)
    return found[0] if found else None


def _angle(text: str | None) -> str | None:
    """The first word, out of its angle brackets."""
    if not text:
        return None
    word = text.split(None, 1)[0].rstrip(";")
    return word.strip("<>") or None


def _protocol(text: str) -> str | None:
    """`(DHE-RSA-AES256-SHA encrypted) SMTP` is SMTP, `ESMTP/TLS/DHE-...` is ESMTP."""
    if "(" in text:
        text = _COMMENT.sub("", text).strip()
    return text.partition("/")[0].strip() or None


def find_ip(text: str) -> str | None:
    """The first IP address in `text`: in a comment before elsewhere, in brackets before bare."""
    comment = text.find("(")
    for start in (comment, 0) if comment >= 0 else (0,):
        for pattern in (_BRACKETED, _V4, _V6):
            found = pattern.search(text, start)
            if found is not None:
                address = normal_ip(found[1])
                if address is not None:
                    return address
    at = text.rfind("@")
    return find_ip(text[at + 1 :].partition(")")[0]) if at >= 0 else None


@lru_cache(4096)
def normal_ip(text: str) -> str | None:
    """The address in its one spelling, an IPv4 mapped into IPv6 as IPv4; None where it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _names(
    name: str | None, text: str, ip: str | None, said: re.Match[str] | None, head: str
) -> tuple[str | None, str | None]:
    """The name the client gave (HELO) and the one its address has (reverse DNS), by the writer's dialect."""
    plain = name if name and name[0] != "[" and name.lower() not in _NOT_NAMES else None
    if said is not None:
        return said[1] or None, plain if plain != ip else None
    if ip is None:
        return plain, None
    inside = _INSIDE.search(text)
    if inside is not None:
        rdns = inside[1].rpartition("@")[2].strip("<>")
        return name, rdns if rdns.lower() not in _NOT_NAMES and rdns != ip else None
    if plain == ip or (_WEB.search(head) and "[" in text):
        return None, None
    lone = _LONE.search(text)
    if lone is not None and "[" not in lone[0] and "Microsoft" not in head:
        return name, plain
    return name, plain if " verified" in text or "(Exim" in head else None


def _ident(text: str) -> str | None:
    if "ident" in text:
        found = _IDENT.search(text)
        if found is not None:
            return found[1]
    if "@" in text:
        found = _IDENT_AT.search(text)
        if found is not None:
            return found[1]
    return None


def _tls(head: str) -> tuple[str | None, str | None]:
    """TLS version ("TLS1.3" in one spelling) and cipher."""
    version = _TLS_VERSION.search(head) if "TLS" in head or "SSL" in head else None
    cipher = (
        _CIPHER.search(head)
        if version is not None or "cipher" in head or "ncrypted" in head or "TLS/" in head
        else None
    )
    spelt = None
    if version is not None:
        letters, digits = version[1][:3].upper(), "".join(c for c in version[1][3:] if c.isdigit())
        spelt = f"{letters}{digits[0]}.{digits[1:] or '0'}"
    return spelt, (cipher[1] or cipher[2] or cipher[3]) if cipher is not None else None


def _encrypted(protocol: str | None, tls: str | None, ip: str | None, head: str) -> bool | None:
    if tls is not None or "(TLS)" in head or "X.509" in head or "(no client cert" in head:
        return True
    if protocol is None:
        return None
    word = protocol.upper()
    if word in _SECURE:
        return True
    if word in _PLAIN and ip is not None:
        return False
    return None


class Timing(NamedTuple):
    """The way a message took. delays: seconds each hop took since the one below it, newest first like the
    hops, None where a time is missing, never negative; skewed: hops whose clock disagrees with the one
    below; slowest: index of the slowest hop where it took SLOW_SECONDS or more; unencrypted: hops that went
    in clear over a network; total: seconds from the oldest to the newest time, None when that cannot be
    told."""

    delays: tuple[float | None, ...]
    skewed: tuple[int, ...]
    skew_seconds: float
    slowest: int | None
    unencrypted: tuple[int, ...]
    total: float | None


def timing(hops: Sequence[Hop]) -> Timing:
    """Delays between hops (newest first), and what stands out in them."""
    delays: list[float | None] = [None] * len(hops)
    skewed: list[int] = []
    clear: list[int] = []
    skew, longest, slowest = 0.0, 0.0, None
    first: float | None = None
    last: float | None = None
    total: float | None = None
    for index in range(len(hops) - 1, -1, -1):
        hop = hops[index]
        if hop.encrypted is False and not is_loopback(hop.ip):
            clear.append(index)
        now = hop.time
        if now is None:
            continue
        if first is None or last is None:
            first = last = now
            continue
        delay = now - last
        if delay < -SKEW_SECONDS:
            skewed.append(index)
            skew = max(skew, -delay)
        if delay > longest:
            longest, slowest = delay, index
        delays[index] = delay if delay > 0.0 else 0.0
        total = now - first if now > first else 0.0
        last = now
    return Timing(
        tuple(delays),
        tuple(skewed[::-1]),
        skew,
        slowest if longest >= SLOW_SECONDS else None,
        tuple(clear[::-1]),
        total,
    )


def is_loopback(ip: str | None) -> bool:
    """Whether the address never leaves the machine."""
    return ip is not None and (ip.startswith("127.") or ip == "::1")
