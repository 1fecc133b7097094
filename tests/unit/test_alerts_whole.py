"""The whole floor at once: observations in, what PagerDuty and Slack receive out, over a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alerts import state as states
from alerts.engine import evaluate
from alerts.http import HttpReply
from alerts.memory import MemoryOutbox
from alerts.notification import notifications
from alerts.notifiers.factory import make_notifier
from alerts.observation import CanaryResult, OwnState
from alerts.outbox import Outbox
from alerts.settings import (
    AlertKind,
    Match,
    PagerDutySettings,
    ReceiverSettings,
    RouteSettings,
    RuleSet,
    SlackSettings,
)
from alerts.state import EngineState
from alerts.texts import Pages
from probes.clock import FakeClock
from probes.outcome import Outcome, Placement

RECEIVERS = {
    "oncall": ReceiverSettings(pagerduty=PagerDutySettings("key", "https://pd.example/")),
    "chat": ReceiverSettings(slack=SlackSettings("https://slack.example/mail")),
    "ops": ReceiverSettings(slack=SlackSettings("https://slack.example/ops")),
}
ROUTES = (RouteSettings(("oncall", "chat"), Match(own=False)), RouteSettings(("ops",), Match(own=True)))


class Wire:
    """Both services; now and then they are down."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []
        self.calls = 0

    async def post(self, url: str, *, json: Any = None, **_: Any) -> HttpReply:
        self.calls += 1
        if self.calls % 3 == 1:
            return HttpReply(503)
        self.got.append((url, json))
        return HttpReply(202)

    def heads(self, url: str) -> list[str]:
        return [body["blocks"][0]["text"]["text"] for to, body in self.got if to == url]


async def test_a_story_of_a_broken_key_and_an_unreadable_seed() -> None:
    clock, wire, store = FakeClock(), Wire(), MemoryOutbox()
    notifiers = {n: make_notifier(n, r, wire) for n, r in RECEIVERS.items()}
    state, pages = EngineState(), Pages("https://canary.example")
    for number in range(16):
        outbox = Outbox(store, notifiers, clock, receivers=RECEIVERS)
        now = clock.wall()
        seen: list[CanaryResult | OwnState] = []
        for sender in ("app", "shop"):
            for seed in ("gmail-1", "gmx-1"):
                broken = sender == "app" and 4 <= number < 9
                good = CanaryResult(
                    sender, seed, seed[:-2], now, Outcome.PASS, Placement.INBOX, sent_at=now - 30
                )
                verdicts = {"spf": "pass", "dkim": "fail" if broken else "pass"}
                bad = replace(good, outcome=Outcome.FAIL, placement=Placement.SPAM)
                seen.append(replace(bad if broken else good, authentication=verdicts))
        seen.append(OwnState(AlertKind.SEED_UNREADABLE, "yahoo-1", number >= 8, now, "login_refused"))
        state, changes = evaluate(states.from_json(states.to_json(state)), seen, now, RuleSet())
        for change in changes:
            store.add(notifications(change, RECEIVERS, ROUTES, pages), now)
        for _ in range(30):
            await outbox.step()
            await clock.advance(30.0)
    pager = [body for to, body in wire.got if to == "https://pd.example/"]
    assert [b["event_action"] for b in pager] == ["trigger", "resolve"]
    assert len({b["dedup_key"] for b in pager}) == 1
    assert pager[0]["payload"]["summary"] == (
        "[FIRING critical] Mail from sender app lands in spam at 2 providers: DKIM does not pass"
    )
    assert wire.heads("https://slack.example/mail") == [
        "[FIRING critical] Mail from sender app lands in spam at 2 providers: DKIM does not pass",
        "[RESOLVED critical] Mail from sender app lands in spam at 2 providers: DKIM does not pass",
    ]
    assert wire.heads("https://slack.example/ops") == [
        "[FIRING own fault, warning] The agent cannot read seed yahoo-1",
        "[RESOLVED own fault, warning] The agent cannot read seed yahoo-1",
    ]
    assert not any(row.waiting for row in store.rows.values())
