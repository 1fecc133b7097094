"""One message looked at: its header, our own evaluation, its bounce, its token, as JSON-ready facts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from agent.inspection.provider import Guess, guess
from agent.inspection.sources import Source
from probes.authentication.compare import Verdict, disagreements
from probes.authentication.evaluate import Evaluation, evaluate
from probes.canary.token import find_tokens
from probes.clock import Clock
from probes.dns import Resolver
from probes.headers.authres import MethodResult, Property
from probes.headers.dsn import Bounce, read_bounce
from probes.headers.report import HeaderReport, ResultsHeader, read_fields
from probes.headers.scan import printable, scan
from probes.headers.verdicts import ProviderVerdict, compauth

SCHEMA = "mailcanary.inspect/1"
TOKEN_OCTETS = 256 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """resolver: asked for keys and records; now: when the message was received, None: by its own header;
    authserv_ids, received_by: the user's word on what to trust (agent/inspection/provider.py)."""

    resolver: Resolver
    clock: Clock
    now: float | None = None
    authserv_ids: list[str] = field(default_factory=list)
    received_by: str | None = None


async def examine(source: Source, settings: Settings) -> dict[str, Any]:
    """All that can be said of the message. Never raises on hostile octets."""
    header = scan(source.octets)
    known = guess(header, settings.authserv_ids, settings.received_by)
    report = read_fields(header, known.rule)
    bounce = read_bounce(source.octets)
    ours = await _evaluate(source.octets, report, known, settings)
    return {
        "schema": SCHEMA,
        "file": source.name,
        "subject": printable(report.first("subject") or "")[:500],
        "from": printable(report.first("from") or "")[:500],
        "trusted_border": _border(report),
        "authentication_results": _results(report, "authentication-results"),
        "arc_authentication_results": _results(report, "arc-authentication-results"),
        "received_spf": _results(report, "received-spf"),
        "authentication": {
            method: {
                "result": verdict.result,
                "ambiguous": verdict.ambiguous,
                "header": verdict.header,
                "policy": verdict.detail.policy,
            }
            for method, verdict in report.authentication.items()
        },
        "received": _received(report),
        "transit": _transit(report),
        "provider": _provider(report, known),
        "evaluated": ours.to_json(),
        "disagreements": [
            {
                "method": one.method,
                "domain": one.domain,
                "theirs": one.theirs,
                "ours": one.ours,
                "detail": one.detail,
            }
            for one in disagreements(ours, _verdicts(report))
        ],
        "bounce": _bounce(bounce),
        "bounce_kind": bounce.kind if bounce else None,
        "returned_message_id": bounce.message_id if bounce else None,
        "envelope_id": bounce.envelope_id if bounce else None,
        "token": _token(source.octets, report, bounce),
    }


async def _evaluate(octets: bytes, report: HeaderReport, known: Guess, settings: Settings) -> Evaluation:
    border = report.border
    helo = (border.helo or border.from_name) if border is not None else None
    when = settings.now
    if when is None:
        when = border.time if border is not None and border.time is not None else settings.clock.wall()
    return await evaluate(
        octets,
        ip=known.ip or (border.ip if border is not None else None),
        helo=helo.strip("[]") if helo else None,
        mail_from=_mail_from(report),
        resolver=settings.resolver,
        now=when,
    )


def _mail_from(report: HeaderReport) -> str | None:
    """The reverse path: Return-Path of the final delivery, else what the border hop or the provider's SPF
    says."""
    path = report.first("return-path")
    if path is not None:
        return path.strip().partition(">")[0].strip("<> ")
    if report.border is not None and report.border.envelope_from is not None:
        return report.border.envelope_from
    spf = report.authentication.get("spf")
    return spf.detail.get("smtp.mailfrom") if spf is not None else None


def _border(report: HeaderReport) -> dict[str, Any]:
    hop = report.border
    return {
        "found": hop is not None,
        "by": hop.by if hop is not None else None,
        "ip": hop.ip if hop is not None else None,
        "why": report.block.why or None,
    }


def _results(report: HeaderReport, name: str) -> list[dict[str, Any]]:
    return [_result(item) for item in report.results if item.header == name]


def _result(item: ResultsHeader) -> dict[str, Any]:
    return {
        "authserv_id": printable(item.results.authserv_id),
        "trusted": item.trusted,
        "ambiguous": bool(item.ambiguous),
        "ambiguous_methods": sorted(item.ambiguous),
        "why": item.why or None,
        "instance": item.results.instance,
        "methods": [_method(one) for one in item.results.methods],
        "defects": [printable(one) for one in item.results.defects],
    }


def _method(one: MethodResult) -> dict[str, Any]:
    told: dict[str, Any] = {
        "method": one.method,
        "result": one.result,
        "reason": printable(one.reason) if one.reason is not None else None,
        "properties": _properties(one.properties),
        "comments": [printable(comment) for comment in one.comments],
        "version": one.version,
    }
    if one.method == "compauth":
        told["meaning"] = compauth(one.result, one.reason)
    return told


def _properties(items: Iterable[Property]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in items:
        found.setdefault(printable(item.key), printable(item.value))
    return found


def _received(report: HeaderReport) -> list[dict[str, Any]]:
    timing = report.timing
    return [
        {
            "from": _shown(hop.from_name),
            "helo": _shown(hop.helo),
            "rdns": _shown(hop.rdns),
            "ip": hop.ip,
            "by": _shown(hop.by),
            "with": _shown(hop.protocol),
            "id": _shown(hop.id),
            "for": _shown(hop.recipient),
            "via": _shown(hop.via),
            "time": hop.time,
            "delay_seconds": timing.delays[index],
            "skewed": index in timing.skewed,
            "slow": index == timing.slowest,
            "tls_version": hop.tls_version,
            "cipher": _shown(hop.cipher),
            "encrypted": hop.encrypted,
            "trusted": report.block.hop is not None and index <= report.block.hop,
        }
        for index, hop in enumerate(report.hops)
    ]


def _shown(text: str | None) -> str | None:
    return printable(text) if text is not None else None


def _transit(report: HeaderReport) -> dict[str, Any]:
    timing = report.timing
    return {
        "seconds": timing.total,
        "skew_seconds": timing.skew_seconds,
        "slowest_hop": timing.slowest,
        "unencrypted_hops": list(timing.unencrypted),
    }


def _provider(report: HeaderReport, known: Guess) -> dict[str, Any]:
    verdict = report.verdict or ProviderVerdict(trusted=False)
    sources = verdict.sources
    return {
        "name": known.provider or (sources[0] if sources else None),
        "placement": verdict.placement,
        "spam": verdict.spam,
        "trusted": bool(sources) and verdict.trusted,
        "evidence": [printable(one) for one in verdict.evidence],
        "scores": verdict.scores,
        "rules": [{"name": rule.name, "score": rule.score} for rule in verdict.rules],
        "contamination": list(report.contamination),
    }


def _verdicts(report: HeaderReport) -> list[Verdict]:
    """The provider's own verdicts, those that count."""
    found = []
    for method, verdict in report.authentication.items():
        if verdict.ambiguous or method not in ("spf", "dkim", "arc", "dmarc"):
            continue
        found.append(Verdict(method, verdict.result, _domain(method, verdict.detail)))
    return found


def _domain(method: str, detail: MethodResult) -> str:
    keys = {"spf": ("smtp.mailfrom",), "dkim": ("header.d", "header.i"), "dmarc": ("header.from",)}
    for key in keys.get(method, ()):
        value = detail.get(key)
        if value:
            return value.rpartition("@")[2].lower()
    return ""


def _bounce(bounce: Bounce | None) -> list[dict[str, Any]] | None:
    if bounce is None:
        return None
    return [
        {
            "status": one.status,
            "reply_code": one.reply_code,
            "reason": one.reason,
            "permanent": one.permanent,
            "recipient": printable(one.recipient),
            "action": one.action,
            "diagnostic": printable(one.diagnostic)[:1000],
            "remote_mta": _shown(one.remote_mta),
        }
        for one in bounce.recipients
    ]


def _token(octets: bytes, report: HeaderReport, bounce: Bounce | None) -> str | None:
    """The canary's token: of a bounce the one in the returned message, its envelope id first."""
    places: list[bytes | str] = []
    if bounce is not None:
        places += [bounce.envelope_id or "", bounce.returned]
    places += [report.first("x-mailcanary-token") or "", report.first("subject") or "", octets[:TOKEN_OCTETS]]
    for place in places:
        found = find_tokens(place, limit=1)
        if found:
            return found[0]
    return None
