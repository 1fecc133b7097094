"""What of one canary is compared with another: as few plain values as tell the whole story, JSON-ready."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from probes.authentication.domains import registrable
from probes.authentication.tags import TagError, parse_tags
from probes.canary.state import Canary
from probes.headers.report import HeaderReport, read_headers
from probes.headers.trust import TrustRule
from probes.outcome import Outcome

METHODS = ("spf", "dkim", "dmarc", "arc")
MAX_SIGNATURES = 8


@dataclass(frozen=True, slots=True)
class Mark:
    """What the provider says of one authentication method (RFC 8601).

    domain: it is about (smtp.mailfrom, header.d, header.from); detail: of DKIM the selector, of DMARC what
    the provider did with the message (dis) or the policy it read; aligned: of DMARC, which of spf and dkim
    passed for the author's organizational domain.
    """

    result: str
    domain: str = ""
    detail: str = ""
    aligned: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """One canary, as far as it is compared. Empty where it was not seen.

    outcome: None while it is on its way; fault: why it could not be submitted, a closed word; reply: the
    SMTP server's last word or the bounce's; ip, helo, tls, encrypted: of the border hop, by which the
    provider took the message in; hops: who handed it on, newest first; latency: seconds from acceptance to
    arrival; header: its fields, for the diff.
    """

    route: str
    provider: str
    at: float
    outcome: str | None
    placement: str = ""
    category: str = ""
    reason: str = ""
    detail: str = ""
    fault: str = ""
    reply: str = ""
    authentication: Mapping[str, Mark] = field(default_factory=dict)
    ip: str = ""
    helo: str = ""
    tls: str = ""
    encrypted: bool | None = None
    hops: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    rules: Mapping[str, float] = field(default_factory=dict)
    latency: float | None = None
    header: tuple[str, ...] = ()

    @property
    def seen(self) -> bool:
        """Whether the message itself was seen in the mailbox."""
        return bool(self.header)

    @property
    def sender(self) -> str:
        """The sender's name."""
        return self.route.partition("/")[0]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `facts_from_json` reads it back."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        found["authentication"] = {
            method: {"result": m.result, "domain": m.domain, "detail": m.detail, "aligned": m.aligned}
            for method, m in self.authentication.items()
        }
        for name in ("scores", "rules"):
            found[name] = dict(found[name])
        for name in ("hops", "header"):
            found[name] = list(found[name])
        return found


def facts_from_json(data: Mapping[str, Any]) -> Facts:
    """Reads what `Facts.to_json` wrote; unknown fields are ignored.

    Raises KeyError, TypeError, ValueError.
    """
    known = {f.name for f in fields(Facts)}
    found = {name: value for name, value in data.items() if name in known}
    found["at"] = float(found["at"])
    found["authentication"] = {
        str(method): Mark(*(str(mark.get(name, "")) for name in ("result", "domain", "detail", "aligned")))
        for method, mark in dict(found.get("authentication", {})).items()
    }
    for name in ("hops", "header"):
        found[name] = tuple(str(line) for line in found.get(name, ()))
    for name in ("scores", "rules"):
        found[name] = {str(key): float(value) for key, value in dict(found.get(name, {})).items()}
    return Facts(**found)


def facts_of(canary: Canary, header: bytes | None, trust: TrustRule) -> Facts:
    """A canary's facts; header: the kept block of its message, None where there is none. Never raises."""
    told = _told(read_headers(header, trust)) if header else {}
    reply = canary.reply
    words = [str(reply.code) if reply.code else "", reply.enhanced, reply.text] if reply else []
    refused = canary.seen_at is None or canary.outcome is not Outcome.PASS
    return Facts(
        route=canary.route,
        provider=canary.provider,
        at=canary.created.wall,
        outcome=canary.outcome.value if canary.outcome else None,
        placement=canary.placement.value if canary.placement else "",
        category=canary.category,
        reason=canary.reason,
        detail=canary.evidence[-1].text[:300] if canary.evidence else "",
        fault=canary.evidence[-1].kind if canary.evidence and canary.reason == "sender-unreachable" else "",
        reply=" ".join(word for word in words if word)[:300] if refused else "",
        latency=canary.latency,
        **told,
    )


def _told(report: HeaderReport) -> dict[str, Any]:
    """What the header of the message adds."""
    border, verdict = report.border, report.verdict
    scores = dict(verdict.scores) if verdict else {}
    return {
        "authentication": _marks(report),
        "ip": (border.ip or "") if border else "",
        "helo": ((border.helo or border.from_name or "") if border else "").strip("[]").lower(),
        "tls": (border.tls_version or "") if border else "",
        "encrypted": border.encrypted if border else None,
        "hops": tuple((hop.by or "?").lower() for hop in report.hops),
        "scores": {name: score for name, score in scores.items() if not name.endswith("_required")},
        "rules": {rule.name: rule.score or 0.0 for rule in verdict.rules} if verdict else {},
        "header": tuple(f"{item.name}: {item.text}"[:1000] for item in report.fields[:150]),
    }


def _marks(report: HeaderReport) -> dict[str, Mark]:
    found: dict[str, Mark] = {}
    author = ""
    for method in METHODS:
        verdict = report.authentication.get(method)
        if verdict is None:
            continue
        get, result = verdict.detail.get, "ambiguous" if verdict.ambiguous else verdict.result
        if method == "spf":
            found[method] = Mark(result, _domain(get("smtp.mailfrom")))
        elif method == "dkim":
            domain = _domain(get("header.d") or get("header.i"))
            found[method] = Mark(result, domain, get("header.s") or _selector(report, domain))
        elif method == "dmarc":
            author = _domain(get("header.from"))
            policy = verdict.detail.policy
            did = policy.get("dis") or policy.get("policy") or policy.get("p") or ""
            found[method] = Mark(result, author, did.lower())
        else:
            found[method] = Mark(result)
    if "dmarc" in found:
        found["dmarc"] = Mark(found["dmarc"].result, author, found["dmarc"].detail, _aligned(found, author))
    return found


def _domain(text: str | None) -> str:
    return (text or "").rpartition("@")[2].strip("<> ").lower()


def _aligned(marks: Mapping[str, Mark], author: str) -> str:
    """The methods that passed for the author's organizational domain (RFC 9989, relaxed)."""
    owner = registrable(author) or author
    good = [
        method
        for method in ("spf", "dkim")
        if (mark := marks.get(method)) is not None
        and mark.result == "pass"
        and (registrable(mark.domain) or mark.domain) == owner
    ]
    return "+".join(good)


def signatures(report_fields: Iterable[str]) -> list[tuple[str, str]]:
    """(d, s) of each DKIM-Signature among header lines, top to bottom (RFC 6376 section 3.5)."""
    found: list[tuple[str, str]] = []
    for line in report_fields:
        name, _, text = line.partition(":")
        if name.lower() != "dkim-signature" or len(found) >= MAX_SIGNATURES:
            continue
        try:
            tags = parse_tags(text.encode("utf-8", "replace"))
        except TagError:
            continue
        found.append((_tag(tags, b"d"), _tag(tags, b"s")))
    return found


def _tag(tags: Mapping[bytes, bytes], name: bytes) -> str:
    return tags.get(name, b"").decode("ascii", "replace").strip().lower()


def _selector(report: HeaderReport, domain: str) -> str:
    """The selector of the signature of that domain; the provider named none."""
    lines = [f"{item.name}:{item.text}" for item in report.fields if item.name == "dkim-signature"]
    return next((s for d, s in signatures(lines) if d == domain or not domain), "")
