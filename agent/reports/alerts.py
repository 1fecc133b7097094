"""Alerts and silences as people and programs read them; what commands, API and pages share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.config.models import Config
from alerts import codec
from alerts.lifecycle import Alert
from alerts.muting import Silence
from alerts.settings import AlertKind, Match
from alerts.texts import Pages, sections
from probes.clock import rfc3339
from probes.errors import DataError

MATCHERS = ("keys", "kinds", "routes", "senders", "seeds", "providers", "zones")
LONGEST_SILENCE = 366 * 86400.0


def mute_text(reason: str) -> str:
    """Why nobody is told of an alert now, in words; "" where people are told."""
    kind, _, name = reason.partition(" ")
    words = {"maintenance": f"in maintenance: {name}", "silence": f"silenced (silence {name})"}
    return words.get(kind, reason)


def pages_of(config: Config) -> Pages:
    """Where the links of texts lead."""
    return Pages(config.agent.external_url or "", config.alerts.runbook_url or "", config.agent.name)


def alert_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """One alert in short."""
    body = row["body"]
    return {
        "schema": "mailcanary.alert/1",
        "key": row["key"],
        "status": row["status"],
        "severity": row["severity"],
        "title": row["title"],
        "since": rfc3339(row["since"]),
        "updated_at": rfc3339(row["updated_at"]),
        "kind": body["kind"],
        "muted": mute_text(body.get("muted", "")),
        "acknowledged_by": body.get("acked_by", ""),
        "members": sorted(body.get("members", {})),
    }


def alert_whole(row: Mapping[str, Any], pages: Pages, now: float) -> dict[str, Any]:
    """One alert with everything a notification would say of it."""
    told = sections(codec.from_json(Alert, row["body"]), pages, now)
    return alert_json(row) | {"sections": [{"name": name, "text": text} for name, text in told]}


def transition_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """One step of an alert's history."""
    facts = {name: row[name] for name in ("key", "kind", "severity", "title")}
    return {"schema": "mailcanary.transition/1", "at": rfc3339(row["at"]), **facts, **row["body"]}


def silence_json(silence: Silence) -> dict[str, Any]:
    """One silence."""
    return {
        "schema": "mailcanary.silence/1",
        "id": int(silence.id),
        "match": match_json(silence.match),
        "starts_at": rfc3339(silence.starts),
        "ends_at": rfc3339(silence.ends),
        "by": silence.author,
        "comment": silence.comment,
    }


def match_json(match: Match) -> dict[str, list[str]]:
    """What a silence covers: only what it names."""
    return {name: list(getattr(match, name)) for name in MATCHERS if getattr(match, name)}


def read_match(words: Mapping[str, Sequence[str]], config: Config) -> Match:
    """What a silence is to cover. Raises DataError where it names nothing, or something that is not there."""
    given: dict[str, Any] = {name: tuple(words.get(name, ())) for name in MATCHERS}
    match = Match(**given)
    if match == Match():
        raise DataError(f"a silence names at least one of {', '.join(MATCHERS)}; all of them: keys '*'")
    known: dict[str, Iterable[str]] = {
        "kinds": [str(kind) for kind in AlertKind],
        "routes": [route.name for route in config.routes_resolved],
        "senders": config.senders,
        "seeds": config.seeds,
        "providers": {seed.provider for seed in config.seeds.values()},
    }
    for name, there in known.items():
        for word in getattr(match, name):
            if not word.endswith("*") and word not in there:
                raise DataError(f"there is no {name[:-1]} {word!r}; there are: {', '.join(sorted(there))}")
    return match
