"""What a survey of records found, as text for people and as a JSON line for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from probes.clock import rfc3339
from probes.outcome import Result
from probes.records.drift import Key, Known, Seen

_MARKS = {"pass": "ok", "fail": "FAIL", "unknown": "?"}


def records_json(found: Result) -> str:
    """One domain as a JSON line."""
    head = {
        "schema": "mailcanary.records/1",
        "domain": found.target,
        "at": rfc3339(found.at),
        "seconds": round(found.seconds, 3),
        "outcome": found.outcome.value,
        "reason": found.reason,
        "summary": found.summary,
    }
    return json.dumps({**head, **found.data}, ensure_ascii=False)


def records_text(found: Result) -> Iterable[str]:
    """One domain as a report that a person can act on: faults first, each with what to publish.

    Texts from DNS are strangers' texts: what could move a terminal's cursor is not printed.
    """
    for line in _lines(found):
        yield "".join(
            char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in line
        )


def _lines(found: Result) -> Iterable[str]:
    data: Mapping[str, Any] = found.data
    yield f"{found.target}: {found.outcome.value}, {found.summary}"
    for item in data["findings"]:
        word = "unknown" if item["outcome"] == "unknown" else item["severity"]
        yield from _finding(word, item)
    for item in data["notes"]:
        yield from _finding("note", item)
    yield from _spf(data["spf"])
    yield from _dkim(data["dkim"])
    yield from _rest(data)
    yield from _rules(data["rules"])
    if "changes" in data:
        yield from _changes(data["changes"], data["compared_with"])


def _finding(word: str, item: Mapping[str, str]) -> Iterable[str]:
    yield f"\n  {word:8} {item['code']}  {item['name']}"
    yield f"           {item['what']}"
    if item["why"]:
        yield f"           why: {item['why']}"
    if item["fix"]:
        yield f"           fix: {item['fix']}"


def _spf(spf: Mapping[str, Any]) -> Iterable[str]:
    if spf["tree"]:
        yield f"\n  SPF, {spf['lookups']} of 10 look-ups, {spf['voids']} of 2 that find nothing:"
        yield from (f"    {line}" for line in spf["tree"])


def _dkim(keys: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for key in keys:
        kind = f"{key['type']} {key['bits']} bits" if key["type"] else key["state"]
        yield f"\n  DKIM {key['selector']}: {kind}"


def _rest(data: Mapping[str, Any]) -> Iterable[str]:
    dmarc, zone, sts = data["dmarc"], data.get("zone"), data["mta_sts"]
    if dmarc:
        yield f"\n  DMARC {dmarc['policy']} (from {dmarc['domain']}): {dmarc['record']}"
    if data["mx"]:
        yield f"  MX {', '.join(data['mx'])}" + (f"; MTA-STS {sts['mode']}" if sts else "")
    if zone:
        servers = ", ".join(server["host"] for server in zone["servers"])
        yield f"  zone {zone['apex']} at {servers}; DNSSEC {zone['dnssec']}"
    if data["caa"]:
        yield f"  CAA {', '.join(data['caa'])}"


def _rules(lines: Iterable[Mapping[str, str]]) -> Iterable[str]:
    by_rule: dict[str, dict[str, str]] = {}
    texts = {line["rule"]: line["text"] for line in lines}
    for line in lines:
        by_rule.setdefault(line["rule"], {})[line["provider"]] = _MARKS[line["outcome"]]
    yield "\n  bulk-sender rules     gmail  yahoo  microsoft"
    for rule, marks in by_rule.items():
        cells = [marks.get(provider, "-") for provider in ("gmail", "yahoo", "microsoft")]
        yield f"    {rule:18}  {cells[0]:5}  {cells[1]:5}  {cells[2]:9}  {texts[rule]}".rstrip()


def changes_json(known: Mapping[Key, Known], seen: Mapping[Key, Seen | None]) -> list[dict[str, Any]]:
    """What is not as it was at the last look, JSON-ready. What could not be seen is left out."""
    return [
        {
            "name": name,
            "type": rdtype,
            "before": list(known[name, rdtype].records),
            "after": list(now.records),
        }
        for (name, rdtype), now in seen.items()
        if now is not None and not now.others and now.records != known[name, rdtype].records
    ]


def _changes(changes: list[Mapping[str, Any]] | None, since: float | None) -> Iterable[str]:
    if changes is None or since is None:
        yield "\n  the agent has not looked at this domain yet: there is nothing to compare with"
        return
    yield f"\n  since {rfc3339(since)}: {len(changes) or 'no'} change{'s' * (len(changes) != 1)}"
    for change in changes:
        yield f"    {change['type']} {change['name']}"
        yield f"      before: {' | '.join(change['before']) or 'nothing'}"
        yield f"      now:    {' | '.join(change['after']) or 'nothing'}"
