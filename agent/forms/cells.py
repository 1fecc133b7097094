"""What every form tells of a round: a row a route, and the lines below."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One route. latency: seconds of its newest canary that arrived; samples: canaries with a verdict."""

    route: str
    outcome: str
    placement: str
    latency: float | None
    authentication: str
    words: str
    cause: str
    samples: int
    stages: Mapping[str, float]

    @property
    def sender(self) -> str:
        """The sender's name."""
        return self.route.partition("/")[0]

    @property
    def seed(self) -> str:
        """The seed's name."""
        return self.route.partition("/")[2]


def rows(report: Mapping[str, Any]) -> list[Row]:
    """A row for each route, in the report's order."""
    verdicts = {v["subject"]: v for v in report["verdicts"] if v["kind"] == "route"}
    several: dict[str, list[Mapping[str, Any]]] = {route: [] for route in verdicts}
    for canary in report["canaries"]:
        several.setdefault(f"{canary['sender']}/{canary['seed']}", []).append(canary)
    for route in report["held"]:
        several.setdefault(route, [])
    return [_row(route, found, verdicts.get(route), report["held"]) for route, found in several.items()]


def _row(
    route: str, found: list[Mapping[str, Any]], verdict: Mapping[str, Any] | None, held: Mapping[str, str]
) -> Row:
    last = found[-1] if found else {}
    places: dict[str, int] = {}
    for canary in found:
        place = canary["placement"] or canary["state"]
        if canary.get("category"):
            place = f"{place} ({canary['category']})"
        places[place] = places.get(place, 0) + 1
    shown = ", ".join(f"{n} {p}" if len(found) > 1 else p for p, n in places.items())
    words = verdict["words"].removeprefix(f"{route}: ") if verdict else held.get(route, "")
    return Row(
        route=route,
        outcome=(verdict or {}).get("outcome") or last.get("outcome") or "unknown",
        placement=shown,
        latency=next(
            (c["latency_seconds"] for c in reversed(found) if c["latency_seconds"] is not None), None
        ),
        authentication=" ".join(f"{m}={r}" for m, r in last.get("authentication", {}).items()),
        words=words,
        cause=(verdict or {}).get("cause") or "",
        samples=sum(canary["outcome"] is not None for canary in found),
        stages=last.get("stages_seconds", {}),
    )


def around(report: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The verdicts on what surrounds the senders."""
    return (v for v in report["verdicts"] if v["kind"] == "sender")


def tag(verdict: Mapping[str, Any]) -> str:
    """The word before what surrounds a sender: its outcome, or "note" where it decides nothing.

    What is only told may be a list of faults, older than the change or not: "pass" before it would be untrue.
    """
    return "note" if verdict["outcome"] == "pass" else str(verdict["outcome"])


def headline(report: Mapping[str, Any]) -> str:
    """One sentence: did we break mail?"""
    if report["cancelled"]:
        return "cancelled: no verdict"
    outcome = report["outcome"] or "unknown"
    held = ", ".join(sorted(set(report["held"].values())))
    causes = ", ".join(f"not sent: {held}" if cause == "held" else cause for cause in report["causes"])
    said = {"pass": "no", "fail": f"yes: {causes}", "unknown": f"could not tell: {causes}"}[outcome]
    beside = f" (compared with {report['baseline']})" if report.get("baseline") else ""
    return f"{outcome}: did we break mail? {said.strip(': ')}{beside}"


def notes(report: Mapping[str, Any]) -> list[str]:
    """What could not be looked up around the senders."""
    return [f"{s}: could not look: {line}" for s, a in report["around"].items() for line in a["unknown"]]


def clean(text: object) -> str:
    """One line without control characters, as XML 1.0 and terminals want it."""
    kept = (
        c if c in "\t\n" or (c.isprintable() and c not in "\ufffe\uffff") else "\ufffd" for c in str(text)
    )
    return "".join(kept)
