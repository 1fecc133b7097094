"""Is what the agent concluded what was done to it? Its store and its notifications against the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.demo.provider import Filed
from agent.demo.receivers import Told
from agent.demo.world import VICTIM, ZONE
from probes.canary.state import Canary
from probes.outcome import Outcome, Placement


@dataclass(frozen=True, slots=True)
class Found:
    """What the agent has in its store: canaries; alerts and listings as rows; health by zone."""

    canaries: Sequence[Canary]
    alerts: Sequence[Mapping[str, Any]]
    listings: Sequence[Mapping[str, Any]]
    zones: Mapping[str, bool]


def differences(found: Found, filed: Mapping[str, Filed], told: Sequence[Told]) -> list[str]:
    """One line for each way in which the agent's word is not what happened; empty where it is."""
    return [
        *_placements(found.canaries, filed),
        *_others(found.canaries),
        *_alert(found.alerts),
        *_listings(found.listings),
        *_notifications(found.alerts, told),
    ]


def _placements(canaries: Iterable[Canary], filed: Mapping[str, Filed]) -> Iterable[str]:
    """Each canary with a verdict lies where its provider says it put it, with the same authentication."""
    spam = 0
    for canary in canaries:
        if canary.outcome is None:
            continue
        truth = filed.get(canary.message_id)
        if truth is None:
            yield f"{canary.route}: judged {canary.outcome} ({canary.reason}), but no provider filed it"
            continue
        wanted = Placement.INBOX if truth.folder == "INBOX" else Placement.SPAM
        spam += wanted is Placement.SPAM
        if canary.placement is not wanted:
            yield f"{canary.route}: the agent says {canary.placement}, it is in {truth.folder}"
        real = {"spf": truth.spf, "dkim": truth.dkim, "dmarc": truth.dmarc}
        read = {method: canary.verdicts.get(method, "none") for method in real}
        if read != real:
            yield f"{canary.route}: the agent read {read}, the provider found {real}"
    if not spam:
        yield "no canary went to spam: the story was not played"


def _others(canaries: Iterable[Canary]) -> Iterable[str]:
    for canary in canaries:
        if canary.sender != VICTIM.name and canary.outcome in (Outcome.FAIL, Outcome.UNKNOWN):
            yield f"{canary.route}: was to stay green, and is {canary.outcome} ({canary.reason})"


def _alert(alerts: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    if len(alerts) != 1:
        yield f"one alert was to fire, there are {len(alerts)}: {[row['title'] for row in alerts]}"
        return
    row = alerts[0]
    body = row["body"]
    if row["status"] != "resolved":
        yield f"the alert is {row['status']}, not resolved"
    if list(body["scope"]) != ["sender", VICTIM.name]:
        yield f"the alert is about {body['scope']}, not about sender {VICTIM.name}"
    causes = {cause["code"]: cause["text"] for cause in body.get("causes", ())}
    if "dkim" not in causes and "dmarc" not in causes and "authentication" not in causes:
        yield f"the broken DKIM key is not among the likely causes: {causes}"
    if ZONE not in causes.get("listed", ""):
        yield f"the listing in {ZONE} is not among the likely causes: {causes}"


def _listings(listings: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    seen = [(row["subject"], row["zone"]) for row in listings]
    if seen != [(VICTIM.ip, ZONE)]:
        yield f"{VICTIM.ip} was listed in {ZONE}, once; the agent recorded {seen}"
    elif listings[0]["delisted_at"] is None:
        yield "the delisting was not recorded"


def _notifications(alerts: Sequence[Mapping[str, Any]], told: Sequence[Told]) -> Iterable[str]:
    keys = {str(row["key"]) for row in alerts}
    for receiver in ("slack", "pagerduty"):
        mine = [one for one in told if one.receiver == receiver]
        actions = [one.action for one in mine]
        if actions != ["trigger", "resolve"]:
            yield f"{receiver} was to get a trigger and a resolve, and got {actions}"
        if mine and {one.key for one in mine} != keys:
            yield f"{receiver} was told of {sorted({one.key for one in mine})}, not {sorted(keys)}"
        if mine and VICTIM.name not in mine[0].title:
            yield f"{receiver}: the title does not name {VICTIM.name}: {mine[0].title}"
        cause = mine[0].sections.get("Likely cause", "") if mine else ""
        if mine and not (ZONE in cause and "dkim=fail" in cause):
            yield f"{receiver}: the likely cause is not the listing and the DKIM key: {cause!r}"
