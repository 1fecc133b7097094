"""The judge of the demo finds every way in which the agent could be wrong, and nothing where it is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agent.demo.judge import Found, differences
from agent.demo.provider import Filed
from agent.demo.receivers import Told
from agent.demo.world import VICTIM, ZONE
from probes.canary.state import Canary, Moment
from probes.outcome import Outcome, Placement

KEY = "mailcanary/key"
GOOD = {"spf": "pass", "dkim": "pass", "dmarc": "pass"}
BAD = {"spf": "pass", "dkim": "fail", "dmarc": "fail"}


def canary(sender: str, spam: bool) -> Canary:
    now = Moment(1.0, 1.0, "boot")
    return Canary(
        id=sender,
        token="t",
        message_id=f"<{sender}>",
        sender=sender,
        seed="northmail",
        provider="dovecot",
        round="",
        created=now,
        deadline=1.0,
        late_after=1.0,
        placement=Placement.SPAM if spam else Placement.INBOX,
        outcome=Outcome.FAIL if spam else Outcome.PASS,
        verdicts=BAD if spam else GOOD,
    )


def notification(receiver: str, action: str) -> Told:
    sections = {"Likely cause": f"listed at {ZONE}; dkim=fail"} if action == "trigger" else {}
    return Told(receiver, action, KEY, f"Mail from sender {VICTIM.name}", sections)


@dataclass
class Case:
    """A whole story that was understood."""

    canaries: list[Canary] = field(default_factory=lambda: [canary("news", False), canary(VICTIM.name, True)])
    filed: dict[str, Filed] = field(
        default_factory=lambda: {
            "<news>": Filed("<news>", "", "INBOX", "pass", "pass", "pass", False),
            f"<{VICTIM.name}>": Filed("", "", "Junk", "pass", "fail", "fail", True),
        }
    )
    alerts: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {
                "key": KEY,
                "title": "t",
                "status": "resolved",
                "body": {
                    "scope": ["sender", VICTIM.name],
                    "causes": [
                        {"code": "listed", "text": f"in {ZONE}"},
                        {"code": "dkim", "text": "dkim=fail"},
                    ],
                },
            }
        ]
    )
    listings: list[dict[str, Any]] = field(
        default_factory=lambda: [{"subject": VICTIM.ip, "zone": ZONE, "delisted_at": 2.0}]
    )
    told: list[Told] = field(
        default_factory=lambda: [
            notification(r, a) for r in ("slack", "pagerduty") for a in ("trigger", "resolve")
        ]
    )

    def judged(self) -> list[str]:
        found = Found(self.canaries, self.alerts, self.listings, {})
        return differences(found, self.filed, self.told)


def test_a_story_that_was_understood_differs_in_nothing() -> None:
    assert Case().judged() == []


def _say(case: Case, at: int, **changes: Any) -> None:
    case.canaries[at] = replace(case.canaries[at], **changes)


def _tell(case: Case, at: int, **changes: Any) -> None:
    case.told[at] = replace(case.told[at], **changes)


MISTAKES: list[tuple[Callable[[Case], Any], str]] = [
    (lambda c: _say(c, 1, placement=Placement.INBOX), "the agent says inbox, it is in Junk"),
    (lambda c: _say(c, 1, verdicts=GOOD), "the provider found"),
    (lambda c: _say(c, 0, outcome=Outcome.UNKNOWN, reason="clock"), "was to stay green"),
    (lambda c: _say(c, 0, message_id="<other>"), "no provider filed it"),
    (lambda c: c.canaries.pop(), "no canary went to spam"),
    (lambda c: c.alerts.append(dict(c.alerts[0])), "there are 2"),
    (lambda c: c.alerts.clear(), "there are 0"),
    (lambda c: c.alerts[0].update(status="firing"), "not resolved"),
    (lambda c: c.alerts[0]["body"].update(scope=["all", ""]), "not about sender"),
    (lambda c: c.alerts[0]["body"]["causes"].pop(), "DKIM key is not among"),
    (lambda c: c.alerts[0]["body"]["causes"].pop(0), "listing in"),
    (lambda c: c.listings.clear(), "the agent recorded []"),
    (lambda c: c.listings[0].update(delisted_at=None), "delisting was not recorded"),
    (lambda c: c.told.append(c.told[0]), "was to get a trigger and a resolve"),
    (lambda c: c.told.pop(), "was to get a trigger and a resolve"),
    (lambda c: _tell(c, 1, key="other"), "was told of"),
    (lambda c: _tell(c, 0, title="Mail from sender news"), "does not name"),
    (lambda c: _tell(c, 2, sections={}), "the likely cause is not"),
]


@pytest.mark.parametrize(("mistake", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_each_mistake_is_told(mistake: Callable[[Case], Any], words: str) -> None:
    case = Case()
    mistake(case)
    assert any(words in line for line in case.judged())
