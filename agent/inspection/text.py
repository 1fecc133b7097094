"""The facts of one message for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent.forms.cells import clean
from probes.clock import rfc3339


def render(facts: dict[str, Any]) -> str:
    """Several lines, the most telling first. Nothing in them moves a terminal's cursor."""
    return "".join(f"{clean(line)}\n" for line in _lines(facts))


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    yield f"{facts['file']}: {facts['subject'] or '(no subject)'}"
    if facts["token"]:
        yield f"  canary {facts['token']}"
    yield from _provider(facts["provider"])
    yield from _authentication(facts)
    yield from _received(facts)
    yield from _bounce(facts)


def _provider(provider: dict[str, Any]) -> Iterator[str]:
    name = provider["name"] or "unknown provider"
    placed = {"inbox": "put it in the inbox", "spam": "put it in spam", "other": "put it in another folder"}
    word = placed.get(provider["placement"], "does not say where it put it")
    yield f"  provider        {name} {word}"
    for mark in provider["contamination"]:
        yield f"    void: {mark}; clean the seed's safe senders"
    for line in provider["evidence"]:
        yield f"    {line}"
    if provider["evidence"] and not provider["trusted"]:
        yield "    (from fields that the message may have brought along)"
    rules = [rule for rule in provider["rules"] if rule["score"] is None or abs(rule["score"]) >= 0.1]
    if rules:
        shown = sorted(rules, key=lambda rule: -(rule["score"] or 0.0))[:12]
        yield "    rules " + ", ".join(
            rule["name"] + (f" {rule['score']:+g}" if rule["score"] is not None else "") for rule in shown
        )


def _authentication(facts: dict[str, Any]) -> Iterator[str]:
    border = facts["trusted_border"]
    if border["found"]:
        yield f"  came in         from {border['ip'] or '?'} at {border['by'] or '?'}"
    else:
        yield f"  came in         cannot be told: {border['why']}"
    told = facts["authentication"]
    if not told:
        yield "  provider says   nothing that can be trusted"
    for method, verdict in told.items():
        note = "  AMBIGUOUS: its own fields contradict each other" if verdict["ambiguous"] else ""
        yield f"  provider says   {method}={verdict['result']}{note}"
    for item in facts["authentication_results"]:
        if not item["trusted"] and item["methods"]:
            claims = " ".join(f"{one['method']}={one['result']}" for one in item["methods"][:6])
            yield f"  not counted     {item['authserv_id'] or '(no authserv-id)'}: {claims}: {item['why']}"
    ours = facts["evaluated"]
    yield f"  we say          spf={ours['spf']['result']}  {ours['spf']['detail']}"
    for one in ours["dkim"]:
        yield f"  we say          dkim={one['result']} {one['domain']}  {one['detail']}"
    for method in ("arc", "dmarc"):
        yield f"  we say          {method}={ours[method]['result']}  {ours[method]['detail']}"
    for one in facts["disagreements"]:
        ours_too = f"we {one['ours']} ({one['detail']})"
        yield f"  DISAGREE        {one['method']}: provider {one['theirs']}, {ours_too}"


def _received(facts: dict[str, Any]) -> Iterator[str]:
    for hop in reversed(facts["received"]):
        delay = "      " if hop["delay_seconds"] is None else f"+{hop['delay_seconds']:.0f}s".rjust(6)
        marks = [word for word in ("slow", "skewed") if hop[word]]
        if hop["encrypted"] is False:
            marks.append("not encrypted")
        elif hop["tls_version"]:
            marks.append(str(hop["tls_version"]))
        when = rfc3339(hop["time"]) if hop["time"] is not None and 0 <= hop["time"] < 4e9 else "?"
        yield (
            f"  {delay} {when}  {hop['from'] or 'local'} -> {hop['by'] or '?'}"
            f" {hop['with'] or ''}{' (' + ', '.join(marks) + ')' if marks else ''}"
        )


def _bounce(facts: dict[str, Any]) -> Iterator[str]:
    for one in facts["bounce"] or ():
        kind = "hard" if one["permanent"] else "soft"
        yield (
            f"  bounce          {one['recipient'] or '?'}: {one['reason']} ({kind}),"
            f" {one['reply_code'] or ''} {one['status'] or ''}  {one['diagnostic'][:200]}"
        )
