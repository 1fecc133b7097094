"""What people read at three in the morning: what, since when, evidence, likely cause, next step."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

import yaml

from alerts.causes import ScopeKind
from alerts.lifecycle import Alert, Member
from alerts.muting import members_of
from alerts.refusals import refusal
from alerts.settings import AlertKind

_SHOWN = 12
# C0 and C1 controls, and what reorders or hides the text around it.
_HOSTILE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")

_DOES = {
    AlertKind.MISSING: "does not arrive",
    AlertKind.SPAM: "lands in spam",
    AlertKind.REJECTED: "is rejected",
    AlertKind.BOUNCED: "bounces",
    AlertKind.DEFERRED: "is deferred past its deadline",
    AlertKind.AUTHENTICATION: "does not pass authentication",
    AlertKind.SLOW: "is slow",
    AlertKind.LISTED: "is on a blocklist",
    AlertKind.RECORD_DRIFT: "has a drifted DNS record",
}
_NONE = {
    AlertKind.MISSING: "No mail arrives",
    AlertKind.AUTHENTICATION: "No mail passes authentication",
}
_OWN = {
    AlertKind.SEED_UNREADABLE: "cannot read seed {name}",
    AlertKind.SENDER_UNREACHABLE: "cannot reach sender {name}'s relay",
    AlertKind.RESOLVER: "gets no answers from resolver {name}",
    AlertKind.STORE: "cannot write its store {name}",
    AlertKind.CLOCK: "has an unreliable clock {name}",
    AlertKind.NO_RUNS: "has no canary results",
    AlertKind.AGENT: "has lost its agent {name}",
}


def clean(text: str) -> str:
    """Text without controls that reorder, hide or break what is around it; letters of every script stay."""
    return _HOSTILE.sub(" ", text)


@dataclass(frozen=True, slots=True)
class Pages:
    """Where links lead: external_url the agent's pages, runbook_url the base of the runbook pages."""

    external_url: str = ""
    runbook_url: str = ""
    agent: str = "mailcanary"

    @staticmethod
    def time(at: float) -> str:
        """A time as people read it: 2026-11-21 03:04 UTC."""
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")

    def runbook(self, kind: str) -> str:
        """The runbook page of a kind: its URL, or the command that prints it where no URL is known."""
        base = self.runbook_url or (f"{self.external_url.rstrip('/')}/runbooks" if self.external_url else "")
        return f"{base.rstrip('/')}/{kind}" if base else ""

    def links(self, alert: Alert) -> dict[str, str]:
        """Label to URL: the runbook, the alert's own page, delisting pages."""
        found = {"Runbook": self.runbook(alert.kind)}
        if self.external_url:
            found["Alert"] = f"{self.external_url.rstrip('/')}/alerts?key={alert.key}"
        urls = dict.fromkeys(
            c.url for c in alert.causes if c.url.startswith("https://") and len(c.url) < 1000
        )
        found |= {f"Delisting {i}" if i > 1 else "Delisting": u for i, u in enumerate(list(urls)[:5], 1)}
        return {label: url for label, url in found.items() if url}


@cache
def advice() -> Mapping[str, Mapping[str, str]]:
    """Likely cause and next step by diagnosis, from advice.yaml."""
    text = resources.files("alerts").joinpath("advice.yaml").read_text("utf-8")
    loaded: Mapping[str, Mapping[str, str]] = yaml.safe_load(text)
    return loaded


def what(alert: Alert) -> str:
    """The alert in one clause: who, what, where."""
    does = _DOES.get(alert.kind, str(alert.kind))
    name = clean(alert.scope.name)
    match alert.scope.kind:
        case ScopeKind.SENDER:
            return f"Mail from sender {name} {does} at {_count(alert.providers, 'provider')}"
        case ScopeKind.SEED:
            return f"Mail to seed {name} {does} from {_count(alert.senders, 'sender')}"
        case ScopeKind.PROVIDER:
            return f"Mail to provider {name} {does} from {_count(alert.senders, 'sender')}"
        case ScopeKind.RELAY:
            return f"Mail through relay {name} {does} from {_count(alert.senders, 'sender')}"
        case ScopeKind.ALL:
            both = f"{_count(alert.senders, 'sender')} to {_count(alert.providers, 'provider')}"
            return f"{_NONE.get(alert.kind, f'All mail {does}')}: {both}"
        case ScopeKind.SENDER_PROVIDER:
            sender, _, provider = name.partition("/")
            return f"Mail from sender {sender} {does} at {provider} only"
        case ScopeKind.ROUTE:
            sender, _, seed = name.partition("/")
            return f"Mail from sender {sender} to seed {seed} {does}"
        case ScopeKind.SUBJECT:
            others = len({k.split(" ")[1] for k in alert.members if k.count(" ") >= 2} - {alert.scope.name})
            return f"{name}{f' (and {others} more)' if others else ''} {_listed_at(alert) or does}"
        case _:
            return f"The agent {_OWN[alert.kind].format(name=_own_name(alert))}"


def _listed_at(alert: Alert) -> str:
    zones = sorted({clean(m.zone) for m in members_of(alert) if m.kind is AlertKind.LISTED and m.zone})
    if alert.kind is not AlertKind.LISTED or not zones:
        return ""
    return f"is on the blocklist {zones[0]}" if len(zones) == 1 else f"is on {len(zones)} blocklists"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _own_name(alert: Alert) -> str:
    names = sorted({m.seed or m.sender for m in members_of(alert)} - {""})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or _subject(alert)


def _subject(alert: Alert) -> str:
    return clean(alert.scope.name.partition("/")[2])


def headline(alert: Alert) -> str:
    """One line: what: cause."""
    known = alert.scope.kind is ScopeKind.SUBJECT  # the sentence says it already
    note = "" if known else advice().get(alert.code, {}).get("title", "")
    return f"{what(alert)}{': ' + note if note else ''}"


def title(alert: Alert, action: str) -> str:
    """The headline with its state and severity before it: [FIRING error] what: cause."""
    words = {"trigger": "FIRING", "resolve": "RESOLVED", "acknowledge": "ACKNOWLEDGED"}
    head = words.get(action, action.upper())
    own = "own fault, " if alert.own else ""
    return f"[{head} {own}{alert.severity}] {headline(alert)}"


def sections(alert: Alert, pages: Pages, now: float) -> list[tuple[str, str]]:
    """The paragraphs of a firing alert, each of use by itself."""
    fill = _names(alert)
    told = advice().get(alert.code) or advice().get(alert.kind) or advice()["unknown"]
    parts = [
        ("What", f"{what(alert)}. {_extent(alert)}"),
        ("Since", f"{Pages.time(alert.started)} ({_duration(now - alert.started)})"),
        ("Evidence", _evidence(alert)),
        ("Likely cause", _cause(alert, told["cause"].format_map(fill))),
        ("Next step", _next(alert, told["next"].format_map(fill))),
        ("Runbook", pages.runbook(alert.kind) or f"mailcanary alerts show '{alert.key}' --runbook"),
        ("Silence", f"mailcanary alerts silence --key '{alert.key}' --for 2h --comment 'why'"),
        ("Agent", pages.agent),
    ]
    if alert.acked_by:
        parts.insert(2, ("Acknowledged", f"by {clean(alert.acked_by)}"))
    return [(name, text) for name, text in parts if text]


def resolved_sections(alert: Alert, pages: Pages) -> list[tuple[str, str]]:
    """The paragraphs of a resolve."""
    end = alert.resolved_at or alert.changed_at
    worst = f" At its worst {alert.peak} failed at once." if alert.peak > 1 else ""
    parts = [
        ("What", f"Over: {what(alert)}.{worst}"),
        ("When", f"{Pages.time(alert.started)} to {Pages.time(end)} ({_duration(end - alert.started)})"),
        ("How it ended", alert.ended_by),
        ("Agent", pages.agent),
    ]
    causes = "; ".join(f"{clean(c.text)}, seen {Pages.time(c.at)}" for c in alert.causes[:3])
    return parts if not causes else [*parts[:2], ("Likely cause", causes), *parts[2:]]


def _things(alert: Alert, number: int) -> str:
    routes = any(m.sender and m.seed for m in members_of(alert))
    word = "route" if routes else ("fault" if alert.own else "finding")
    return word if number == 1 else f"{word}s"


def _extent(alert: Alert) -> str:
    number = len(alert.members)
    routes = [m for m in alert.members.values() if m.sender and m.seed]
    if not routes:
        return f"{number} {_things(alert, number)}."
    kinds = Counter(m.kind for m in routes)
    words = ", ".join(f"{n} {str(k).replace('_', ' ')}" for k, n in kinds.most_common())
    return f"{len(routes)} failing {_things(alert, len(routes))} now ({words})."


def _evidence(alert: Alert) -> str:
    """The SMTP replies and verdicts seen, commonest first, then some of the members by name."""
    members = list(alert.members.values()) or list(members_of(alert))
    replies = Counter(clean(m.reply) for m in members if m.reply and not m.reply.startswith("2"))
    lines = [f"{n} x SMTP reply {text}" for text, n in replies.most_common(3)]
    said = refusal(alert)
    lines += [f"which means: {said.text}"] if said else []
    accepted = next((m.reply for m in members if m.kind is AlertKind.MISSING and m.reply.startswith("2")), "")
    lines += [f"accepted before it was lost, for example: {clean(accepted)}"] if accepted else []
    texts = Counter(clean(m.text) for m in members if m.text)
    lines += [f"{n} x {text}" if n > 1 else text for text, n in texts.most_common(4)]
    names = [clean(n) for n, m in alert.members.items() if m.sender and m.seed]
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append("routes: " + ", ".join(sorted(names)[:_SHOWN]) + more)
    return "\n".join(lines)


def _cause(alert: Alert, general: str) -> str:
    """Changes near the beginning first, with their time; then what the pattern says."""
    # What the alert is about is its evidence, and not its cause as well.
    shown = {m.text for m in members_of(alert)} if alert.scope.kind is ScopeKind.SUBJECT else set()
    causes = [c for c in alert.causes if c.text not in shown]
    lines = [f"{clean(c.text)}, seen {_relative(c.at, alert.started)}" for c in causes[:5]]
    lines += [f"and {len(causes) - 5} more changes"] if len(causes) > 5 else []
    return "\n".join([*lines, general])


def _next(alert: Alert, general: str) -> str:
    """What the refusals ask for, then what the pattern does."""
    said = None if alert.own else refusal(alert)
    return f"{said.next_step} {general}" if said else general


def _relative(at: float, started: float) -> str:
    gap = started - at
    if abs(gap) < 60:
        return f"{Pages.time(at)}, when it began"
    side = "before the first failure" if gap > 0 else "after the first failure"
    return f"{Pages.time(at)}, {_duration(abs(gap))} {side}"


def _duration(seconds: float) -> str:
    minutes = int(max(0.0, seconds) // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _names(alert: Alert) -> dict[str, str]:
    """The words that advice may use: one example of each thing concerned."""
    members = list(members_of(alert))
    example = next((m for m in members if m.sender and m.seed), members[0] if members else None)
    example = example or Member(alert.kind, alert.started)
    senders = {m.sender for m in members if m.sender}
    return {
        "sender": clean(example.sender) or "SENDER",
        "seed": clean(example.seed) or "SEED",
        "provider": clean(example.provider) or "the provider",
        "route": clean(f"{example.sender or 'SENDER'}/{example.seed or 'SEED'}"),
        "subject": clean(alert.scope.name.partition("/")[2] or alert.scope.name),
        "senders": ", ".join(sorted(senders)[:5]) or "your senders",
    }


def details(alert: Alert) -> dict[str, Any]:
    """The alert for machines: scope, diagnosis, counts, causes and up to 50 members."""
    names = sorted(alert.members)
    return {
        "kind": str(alert.kind),
        "scope": str(alert.scope),
        "diagnosis": alert.code,
        "own": alert.own,
        "started": Pages.time(alert.started),
        "failing": len(names),
        "worst": alert.peak,
        "senders": alert.senders,
        "seeds": alert.seeds,
        "providers": alert.providers,
        "members": [clean(n) for n in names[:50]],
        "members_left_off": max(0, len(names) - 50),
        "likely_causes": [f"{c.code}: {clean(c.text)} ({Pages.time(c.at)})" for c in alert.causes],
    }
