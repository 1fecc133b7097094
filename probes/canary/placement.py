"""From a folder and a header to a verdict: where the canary landed and what the provider said of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from probes.canary.state import Moment
from probes.canary.track import Arrival
from probes.headers.report import HeaderReport
from probes.mailbox.model import Role, SeenMessage
from probes.outcome import Evidence, Outcome, Placement

METHODS = ("spf", "dkim", "dmarc", "arc")
AMBIGUOUS = "ambiguous"
CATEGORIES = frozenset("primary social promotions updates forums reservations purchases unknown".split())

_BY_ROLE = {
    Role.INBOX: Placement.INBOX,
    Role.JUNK: Placement.SPAM,
    Role.TAB: Placement.TAB,
    Role.OTHER: Placement.OTHER,
}


def judge(message: SeenMessage, report: HeaderReport, seen: Moment) -> Arrival:
    """What the sight of a canary means. A contaminated seed voids it; doubt about the verdicts of a message
    that is where it should be makes it unknown; a wrong folder is wrong whatever the header says."""
    placement = _placement(message)
    verdicts = _verdicts(report)
    outcome, reason = _outcome(placement, report, verdicts)
    return Arrival(
        placement=placement,
        outcome=outcome,
        reason=reason,
        folder=message.folder,
        seen=seen,
        internal_date=message.internaldate,
        category=_category(message),
        verdicts=verdicts,
        evidence=tuple(_evidence(report, verdicts, placement)),
    )


def _placement(message: SeenMessage) -> Placement:
    placement = _BY_ROLE[message.role]
    if placement is Placement.INBOX and message.category not in (None, "primary", "unknown"):
        return Placement.TAB
    return placement


def _category(message: SeenMessage) -> str:
    if message.category is None or message.category == "primary":
        return ""
    # A closed set, because it becomes text in places where free text must not come from a server.
    return message.category if message.category in CATEGORIES or message.role is Role.TAB else "unknown"


def _outcome(placement: Placement, report: HeaderReport, verdicts: dict[str, str]) -> tuple[Outcome, str]:
    if report.contamination:
        return Outcome.UNKNOWN, "contaminated"
    if placement in (Placement.SPAM, Placement.OTHER):
        return Outcome.FAIL, placement.value
    if AMBIGUOUS in (verdicts.get(method) for method in ("spf", "dkim", "dmarc")):
        return Outcome.UNKNOWN, AMBIGUOUS
    return Outcome.PASS, ""


def _verdicts(report: HeaderReport) -> dict[str, str]:
    found = report.authentication
    return {
        method: AMBIGUOUS if found[method].ambiguous else found[method].result
        for method in METHODS
        if method in found
    }


def _evidence(report: HeaderReport, verdicts: dict[str, str], placement: Placement) -> Iterable[Evidence]:
    for mark in report.contamination[:3]:
        yield Evidence("contamination", f"{mark}; clean the seed's safe-sender list")
    for method, result in verdicts.items():
        if result not in ("pass", "none"):
            detail = report.authentication[method].detail
            text = f"{method}={result}" + (f" ({detail.reason})" if detail.reason else "")
            yield Evidence("authentication", text[:300])
    if not verdicts:
        yield from _overlooked(report)
    if placement is Placement.INBOX:  # nobody asks the filter why: its verdict need not be read at all
        return
    verdict = report.verdict
    if verdict is not None:
        for line in verdict.evidence[:5]:
            yield Evidence("provider-verdict", str(line)[:300])


def _overlooked(report: HeaderReport) -> Iterable[Evidence]:
    """Where nothing was trusted, the commonest reason of a server of one's own: the milter writes below the
    border."""
    for item in report.results:
        if not item.trusted and report.trust.owns(item.results.authserv_id) and item.results.authserv_id:
            text = (
                f"{item.results.authserv_id} wrote {item.header} below the border Received, where it is not "
            )
            yield Evidence("hint", text + "trusted; if your server always does, set imap.below_border: 1")
            return
