"""Did we break mail? From a round and what was before it to a verdict a route, a sender, and overall. Pure.

What is deterministic (authentication, the path, records, listings, a refusal, a bounce) decides from one
sample. Where the samples of a route disagree about the inbox, only the sequential test may make a claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from probes.change.around import Around, around_from_json, compare_around
from probes.change.compare import GOOD_PLACES, compare, place
from probes.change.difference import Difference
from probes.change.facts import Facts, facts_from_json
from probes.change.headers import header_diff
from probes.change.sequential import Claim, Decision, SequentialTest
from probes.errors import DataError
from probes.outcome import Outcome, Severity, combine

_TLS_FAULTS = {
    "tls_certificate": ("certificate", "the server's certificate is refused: {}; renew it"),
    "tls_missing": ("tls", "{}: switch it on again, nothing is sent there in clear"),
}
"""Why a canary could not be submitted, where one try tells it for sure: its cause, and what to do."""


@dataclass(frozen=True, slots=True)
class State:
    """What a round saw, or what was before it.

    routes: each route's canaries, oldest first; held: why a route was not sent; around: by sender.
    """

    routes: Mapping[str, Sequence[Facts]] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    around: Mapping[str, Around] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a route, or of what surrounds a sender (kind "sender").

    cause: a closed word, "" where all is well; words: one line for people; claim: about the inbox rate,
    where several canaries were sent; header_diff: of the two canaries that were compared.
    """

    kind: str
    subject: str
    outcome: Outcome
    cause: str
    words: str
    differences: tuple[Difference, ...] = ()
    claim: Claim | None = None
    header_diff: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "outcome": self.outcome.value,
            "cause": self.cause or None,
            "words": self.words,
            "differences": [difference.to_json() for difference in self.differences],
            "rate": self.claim.to_json() if self.claim else None,
            "header_diff": list(self.header_diff),
        }


@dataclass(frozen=True, slots=True)
class Assessment:
    """The verdict over all, and each of its parts."""

    outcome: Outcome
    verdicts: tuple[Verdict, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "outcome": self.outcome.value,
            "causes": sorted({v.cause for v in self.verdicts if v.cause and v.outcome is self.outcome}),
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
        }


def assess(after: State, before: State | None = None, test: SequentialTest | None = None) -> Assessment:
    """Judges a round, beside what was before where that is known."""
    test = test or SequentialTest()
    known = before or State()
    verdicts = [
        _route(name, known.routes.get(name, ()), after, test) for name in sorted({*after.routes, *after.held})
    ]
    verdicts += [
        verdict
        for sender, around in sorted(after.around.items())
        if (verdict := _sender(sender, known.around.get(sender), around)) is not None
    ]
    # A sender whose surroundings changed harmlessly says nothing about mail: its routes do.
    counted = [v.outcome for v in verdicts if v.kind == "route" or v.outcome is Outcome.FAIL]
    return Assessment(combine(counted), tuple(verdicts))


def _sender(name: str, before: Around | None, after: Around) -> Verdict | None:
    found = compare_around(before, after)
    if not found:
        return None
    bad = [d for d in found if d.severity.rank >= Severity.ERROR.rank]
    outcome = Outcome.FAIL if bad else Outcome.PASS
    cause = min(bad, key=lambda d: d.order).what if bad else ""
    subject = name if bad or before else f"{name}: nothing to compare with, wrong now"
    return Verdict("sender", name, outcome, cause, _line(subject, found), tuple(found))


def _line(subject: str, found: Sequence[Difference], more: Sequence[str] = ()) -> str:
    """One line: what changed, then what to do."""
    parts = [d.words for d in found] + [text for text in more if text]
    fixes = dict.fromkeys(d.fix for d in found if d.fix)
    text = f"{subject}: {', '.join(parts)}" if parts else subject
    return "; ".join([text, *list(fixes)[:2]])


def _route(name: str, before: Sequence[Facts], state: State, test: SequentialTest) -> Verdict:
    after = [facts for facts in state.routes.get(name, ()) if facts.outcome is not None]
    if not after:
        held = state.held.get(name, "")
        words = f"{name}: not sent: {held}" if held else f"{name}: no verdict yet"
        return Verdict("route", name, Outcome.UNKNOWN, "held" if held else "pending", words)
    old, new = min(before, key=_usual, default=None), min(after, key=_worst)
    around = state.around.get(name.partition("/")[0])
    found = _differences(before, after, old, new, around.keys if around else {})
    claim = _claim(after, test) if len(after) > 1 else None
    outcome, cause, said = _decide(before, after, found, claim, new)
    more = [said, claim.words if claim else "", _untold(after) if outcome is not Outcome.UNKNOWN else ""]
    changed = any(d.severity is not Severity.INFO for d in found)
    diff = header_diff(old.header, new.header) if old and changed and old.seen and new.seen else []
    return Verdict("route", name, outcome, cause, _line(name, found, more), tuple(found), claim, tuple(diff))


def _usual(facts: Facts) -> tuple[int, int, float]:
    """Orders what may stand for the time before: passed, with every method in order, the newest."""
    judged = {"pass": 0, "fail": 1}.get(facts.outcome or "", 2)
    wrong = sum(mark.result not in ("pass", "none") for mark in facts.authentication.values())
    return judged, wrong, -facts.at


def _worst(facts: Facts) -> tuple[int, int, float]:
    """Orders what tells most of the trouble: failed, with most methods not in order, the newest."""
    judged = {"fail": 0, "unknown": 1}.get(facts.outcome or "", 2)
    sound = sum(mark.result == "pass" for mark in facts.authentication.values())
    return judged, sound if facts.seen else 0, -facts.at


def _differences(
    before: Sequence[Facts],
    after: Sequence[Facts],
    old: Facts | None,
    new: Facts,
    keys: Mapping[str, str],
) -> list[Difference]:
    """Of the usual one before and the worst one now; latency by the medians."""
    if old is None:
        return []
    found = compare(old, new, keys)
    if len(after) < 2 and len(before) < 2:
        return found
    slow = [d for d in found if d.what == "latency"]
    typical = compare(_typical(old, before), _typical(new, after))
    return [d for d in found if d not in slow] + [d for d in typical if d.what == "latency"]


def _typical(one: Facts, every: Sequence[Facts]) -> Facts:
    known = [facts.latency for facts in every if facts.latency is not None]
    return replace(one, latency=median(known) if known else None)


def _claim(after: Sequence[Facts], test: SequentialTest) -> Claim | None:
    samples = [facts.outcome == "pass" for facts in after if facts.outcome in ("pass", "fail")]
    return test.run(samples) if samples else None


def _decide(
    before: Sequence[Facts],
    after: Sequence[Facts],
    found: Sequence[Difference],
    claim: Claim | None,
    new: Facts,
) -> tuple[Outcome, str, str]:
    """The outcome, its cause, and what has to be said besides the differences."""
    bad = [d for d in found if d.severity.rank >= Severity.ERROR.rank]
    passes = sum(facts.outcome == "pass" for facts in after)
    failures = sum(facts.outcome == "fail" for facts in after)
    if _hard(bad):
        return Outcome.FAIL, bad[0].what, ""
    if new.reason == "sender-unreachable" and new.fault in _TLS_FAULTS:
        cause, said = _TLS_FAULTS[new.fault]
        return Outcome.FAIL, cause, said.format(new.detail)
    if passes and failures:
        return _mixed(claim, bad, new)
    if failures:
        if before and _failed_alike(before, new):
            said = f"{place(new)}, as before: this cannot tell whether the change broke anything here"
            return Outcome.UNKNOWN, "failed-before", said
        cause = bad[0].what if bad else _cause(new)
        return Outcome.FAIL, cause, "" if bad else _failure(new)
    if passes:
        return Outcome.PASS, "", "" if found else _fine(after, bool(before))
    return Outcome.UNKNOWN, new.reason or "unknown", _doubt(new)


def _hard(bad: Sequence[Difference]) -> bool:
    """Whether a difference decides by itself, however many canaries landed where."""
    return any(d.what in ("spf", "dkim", "dmarc", "tls") for d in bad)


def _mixed(claim: Claim | None, bad: Sequence[Difference], new: Facts) -> tuple[Outcome, str, str]:
    decision = claim.decision if claim else Decision.OPEN
    if decision is Decision.GOOD:
        return Outcome.PASS, "", ""
    if decision is Decision.BAD:
        return Outcome.FAIL, bad[0].what if bad else "rate", "" if bad else _failure(new)
    return Outcome.UNKNOWN, "too-few-samples", "" if bad else _failure(new)


def _failed_alike(before: Sequence[Facts], new: Facts) -> bool:
    judged = [facts for facts in before if facts.outcome in ("pass", "fail")]
    return bool(judged) and all(f.outcome == "fail" and f.placement == new.placement for f in judged)


def _cause(new: Facts) -> str:
    return "placement" if new.reason in ("spam", "other", "missing", "") else new.reason


def _failure(new: Facts) -> str:
    failed = [
        f"{m}={mark.result}"
        for m, mark in new.authentication.items()
        if mark.result not in ("pass", "none", "bestguesspass")
    ]
    told = failed or [new.reply or new.detail]
    return ", ".join(part for part in (place(new) or "failed", *told) if part)


def _fine(after: Sequence[Facts], compared: bool) -> str:
    where = ", ".join(dict.fromkeys(place(facts) for facts in after if facts.placement in GOOD_PLACES))
    return f"{where}, nothing changed" if compared else where


def _untold(after: Sequence[Facts]) -> str:
    """Canaries that are no samples, because nothing could be told of them."""
    reasons = [facts.reason or "unknown" for facts in after if facts.outcome == "unknown"]
    if not reasons:
        return ""
    return f"{len(reasons)} of {len(after)} could not be told ({', '.join(dict.fromkeys(reasons))})"


def _doubt(new: Facts) -> str:
    said = {
        "seed-fault": "the seed's own fault",
        "sender-unreachable": "it could not be submitted",
        "unconfirmed": "the final reply was lost",
        "seed-unreadable": "could not look: the seed's mailbox cannot be read",
        "contaminated": "the seed's own lists skipped filtering",
    }.get(new.reason, f"could not look: {new.reason}" if new.reason else "could not tell")
    detail = new.reply or new.detail
    if detail.startswith("250"):  # accepted, which explains nothing
        return said
    return f"{said} ({detail})" if detail else said


def state_of(report: Mapping[str, Any]) -> State:
    """What a round's report (mailcanary.round/1) holds, for use as a baseline. Raises DataError."""
    try:
        routes: dict[str, list[Facts]] = {}
        for one in sorted(report["canaries"], key=lambda c: str(c["created_at"])):
            facts = facts_from_json(one["facts"])
            routes.setdefault(facts.route, []).append(facts)
        held = {str(route): str(why) for route, why in dict(report.get("held", {})).items()}
        around = {str(s): around_from_json(a) for s, a in dict(report.get("around", {})).items()}
        return State(routes, held, around)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"not the report of a round: {error!r}") from None
