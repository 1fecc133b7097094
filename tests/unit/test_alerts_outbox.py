"""At least once, in order, gentle: the outbox against receivers that fail in every way (G8, quick)."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from alerts.delivery import SENT, Delivery
from alerts.heartbeat import Heartbeat, ping
from alerts.http import AiohttpPoster, HttpPoster
from alerts.memory import MemoryOutbox
from alerts.notification import Action, Gate, Notification, Section
from alerts.notifiers.pagerduty import PagerDutyNotifier
from alerts.notifiers.slack import SlackNotifier
from alerts.outbox import LEASE, DeliveryEvent, Outbox, backoff
from alerts.pace import Breaker, Pace
from alerts.settings import HeartbeatSettings, PagerDutySettings, ReceiverSettings, SlackSettings
from probes.clock import FakeClock
from probes.outcome import Severity

NOW = 1_800_000_000.0


def note(number: int, action: Action = Action.TRIGGER, receiver: str = "r", **more: Any) -> Notification:
    base = Notification(
        f"{number} {action} {receiver}",
        receiver,
        f"key-{number}",
        action,
        Severity.ERROR,
        f"[{action}] incident {number}",
        (Section("What", "x"),),
        NOW,
        NOW,
    )
    return replace(base, **more)


@dataclass
class Scripted:
    """A notifier that answers from a list, then always with success."""

    answers: list[Delivery | Exception] = field(default_factory=list)
    sent: list[Notification] = field(default_factory=list)
    per_minute: float = 6000.0
    digests: bool = False

    async def send(self, notification: Notification, now: float) -> Delivery:
        answer = self.answers.pop(0) if self.answers else SENT
        if isinstance(answer, Exception):
            raise answer
        if answer.ok:
            self.sent.append(notification)
        return answer


class Bench:
    """An outbox on a fake clock."""

    def __init__(self, *answers: Delivery | Exception, **more: Any) -> None:
        self.clock, self.store = FakeClock(NOW), MemoryOutbox()
        self.notifier = Scripted(list(answers), **more)
        self.events: list[DeliveryEvent] = []
        self.outbox = self.fresh()

    def fresh(self) -> Outbox:
        return Outbox(
            self.store, {"r": self.notifier}, self.clock, random=random.Random(1), observe=self.events.append
        )

    async def until_empty(self, seconds: float = 90_000.0, step: float = 5.0) -> None:
        for _ in range(int(seconds / step)):
            if not any(r.waiting for r in self.store.rows.values()):
                return
            await self.outbox.step()
            await self.clock.advance(step)
        raise AssertionError("not delivered")


FAILED = Delivery(False, "server_error")


async def test_trigger_goes_before_resolve_however_often_it_fails() -> None:
    bench = Bench(FAILED, FAILED, FAILED)
    bench.store.add([note(1), note(1, Action.RESOLVE, gate=Gate.IF_TOLD)], NOW)
    await bench.until_empty()
    assert [n.action for n in bench.notifier.sent] == [Action.TRIGGER, Action.RESOLVE]
    assert [e.outcome for e in bench.events] == ["retry"] * 3 + ["sent"] * 2
    assert bench.events[3].delay > 5


async def test_one_keys_trouble_does_not_hold_up_the_others() -> None:
    bench = Bench(Delivery(False, "refused", permanent=True))
    bench.store.add([note(1), note(2)], NOW)
    await bench.outbox.step()
    assert [n.dedup_key for n in bench.notifier.sent] == ["key-2"]
    await bench.clock.advance(3601)
    await bench.outbox.step()
    assert [n.dedup_key for n in bench.notifier.sent] == ["key-2", "key-1"], "tried again hourly"


async def test_what_fails_for_good_is_given_up_after_a_day() -> None:
    bench = Bench(*[Delivery(False, "refused", permanent=True)] * 99)
    bench.store.add([note(1)], NOW)
    await bench.until_empty(110_000.0, 600.0)
    assert [e.outcome for e in bench.events][-1] == "gave_up"
    assert 24 <= len(bench.events) <= 26


async def test_retry_after_is_honoured_for_the_whole_receiver() -> None:
    bench = Bench(Delivery(False, "rate_limited", retry_after=120.0))
    bench.store.add([note(1), note(2)], NOW)
    await bench.outbox.step()
    for _ in range(11):
        await bench.clock.advance(10)
        await bench.outbox.step()
    assert bench.notifier.sent == []
    await bench.clock.advance(15)
    await bench.outbox.step()
    assert len(bench.notifier.sent) == 2


async def test_a_crash_between_send_and_mark_sends_again() -> None:
    bench = Bench()

    class Killed(BaseException):
        """As a SIGKILL: nothing after it runs."""

    async def dies(ids: object, at: float) -> None:
        raise Killed

    bench.store.add([note(1), note(1, Action.RESOLVE, gate=Gate.IF_TOLD)], NOW)
    alive, bench.store.mark_sent = bench.store.mark_sent, dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await bench.outbox.step()
    bench.store.mark_sent = alive  # type: ignore[method-assign]
    bench.outbox = bench.fresh()
    await bench.outbox.step()
    assert len(bench.notifier.sent) == 1, "leased until the lease ends"
    await bench.clock.advance(LEASE)
    await bench.until_empty()
    assert [n.action for n in bench.notifier.sent] == [Action.TRIGGER, Action.TRIGGER, Action.RESOLVE]


async def test_a_notifiers_bug_loses_nothing_and_stops_nobody() -> None:
    bench = Bench(RuntimeError("boom"))
    bench.store.add([note(1), note(2)], NOW)
    await bench.until_empty()
    assert sorted(n.dedup_key for n in bench.notifier.sent) == ["key-1", "key-2"]
    assert bench.events[0].reason == "crashed"


async def test_gates() -> None:
    bench = Bench()
    bench.store.add(
        [
            note(1, Action.RESOLVE, gate=Gate.IF_TOLD),
            note(2, gate=Gate.IF_OPEN, not_before=NOW + 1800),
            note(3, gate=Gate.IF_OPEN, not_before=NOW + 1800),
            note(3, Action.RESOLVE, gate=Gate.IF_TOLD),
            note(4),
            note(4, Action.UPDATE, gate=Gate.IF_NOT_TOLD),
        ],
        NOW,
    )
    bench.store.open_keys = {"key-2"}
    await bench.outbox.step()
    await bench.outbox.step()
    assert [n.dedup_key for n in bench.notifier.sent] == ["key-4"]
    await bench.clock.advance(1800)
    await bench.until_empty()
    assert [n.dedup_key for n in bench.notifier.sent] == ["key-4", "key-2"], "3 was over before it escalated"


async def test_many_leave_as_one_digest_but_never_where_keys_must_close() -> None:
    bench = Bench(digests=True)
    bench.store.add([note(i) for i in range(50)], NOW)
    await bench.outbox.step()
    assert [n.action for n in bench.notifier.sent] == [Action.DIGEST]
    assert not any(r.waiting for r in bench.store.rows.values())
    pager = Bench()
    pager.store.add([note(i) for i in range(50)], NOW)
    await pager.until_empty()
    assert {n.action for n in pager.notifier.sent} == {Action.TRIGGER}


async def test_pace_and_breaker() -> None:
    bench = Bench(per_minute=30.0)
    bench.store.add([note(i) for i in range(100)], NOW)
    counts = []
    for _ in range(60):
        await bench.outbox.step()
        counts.append(len(bench.notifier.sent))
        await bench.clock.advance(1.0)
    assert counts[0] == 10, "a burst"
    assert 38 <= counts[-1] <= 41, "then thirty a minute"
    broken = Bench(*[FAILED] * 1000)
    broken.store.add([note(i) for i in range(100)], NOW)
    for _ in range(120):
        await broken.outbox.step()
        await broken.clock.advance(1.0)
    assert len(broken.events) < 15, "a dead service is tried now and then, not by every message"


def test_back_off_doubles_is_capped_and_jitters() -> None:
    rng = random.Random(3)
    waits = [backoff(n, rng) for n in range(12)]
    assert 2.5 <= waits[0] <= 5.0
    assert max(waits) <= 600.0
    assert all(b < 2.01 * 2 * a for a, b in pairwise(waits))
    assert len(set(waits)) == 12
    assert Pace(60.0).free(0.0) == 10
    assert Breaker(5, 10.0).free(9.0) == 0
    assert Breaker(5, 10.0).free(10.0) == 1


class Nasty:
    """A receiver that answers 500, 429, hangs, resets or accepts, and keeps what it accepted."""

    def __init__(self, seed: int) -> None:
        self.random, self.accepted, self.url = random.Random(seed), [], ""
        self.accepted: list[dict[str, Any]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        mood = self.random.choice(("ok", "ok", "500", "429", "hang", "reset", "accepted, then reset"))
        if mood in ("ok", "accepted, then reset"):
            self.accepted.append(body)
        if mood.endswith("reset"):
            assert request.transport is not None
            request.transport.abort()
        if mood == "hang":
            await asyncio.sleep(5)
        status = {"500": 500, "429": 429}.get(mood, 202)
        return web.Response(status=status, headers={"Retry-After": "1"} if status == 429 else {}, text="ok")


@pytest.fixture
async def nasty() -> AsyncIterator[Nasty]:
    found = Nasty(11)
    app = web.Application()
    app.router.add_post("/", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield found
    await runner.cleanup()


async def test_nothing_is_lost_at_a_receiver_that_fails_in_every_way(nasty: Nasty) -> None:
    """Alerts with their resolves to PagerDuty and Slack, killed mid-send now and then: the rules of G8, which
    tests/guarantees proves of the whole agent."""
    clock, store = FakeClock(NOW), MemoryOutbox()
    total, kills = 12, 0
    store.add([note(i, receiver=r) for i in range(total) for r in ("pd", "slack")], NOW)
    ends = [note(i, Action.RESOLVE, r, gate=Gate.IF_TOLD) for i in range(total) for r in ("pd", "slack")]
    store.add(ends, NOW)
    chance = random.Random(5)

    class Killed(BaseException):
        """The process dies here."""

    class Mortal:
        """HTTP that now and then dies right after the service has accepted."""

        def __init__(self, inner: HttpPoster) -> None:
            self.inner = inner

        async def post(self, url: str, **more: Any) -> Any:
            reply = await self.inner.post(url, **more)
            if reply.status < 300 and chance.random() < 0.2:
                raise Killed
            return reply

    def boot(http: HttpPoster) -> Outbox:
        notifiers = {
            "pd": PagerDutyNotifier(PagerDutySettings("key", nasty.url), http, 0.05),
            "slack": SlackNotifier(SlackSettings(nasty.url), http, 0.05),
        }
        settings = {n: ReceiverSettings(digest_over=0, timeout=1.0) for n in notifiers}
        return Outbox(store, notifiers, clock, receivers=settings, random=random.Random(2))

    async with AiohttpPoster() as poster:
        mortal = Mortal(poster)
        outbox = boot(mortal)
        for _ in range(3000):
            if not any(r.waiting for r in store.rows.values()):
                break
            try:
                await outbox.step()
            except Killed:
                kills += 1
                outbox = boot(mortal)
            await clock.advance(20.0)
    assert kills > 3
    pages = [b for b in nasty.accepted if "routing_key" in b]
    for i in range(total):
        actions = [b["event_action"] for b in pages if b["dedup_key"] == f"key-{i}"]
        assert actions[0] == "trigger"
        assert actions[-1] == "resolve", "no incident is left open"
        assert actions == sorted(actions, reverse=True), "never a resolve before a trigger"
    texts = json.dumps([b for b in nasty.accepted if "blocks" in b])
    assert all(f"[{a}] incident {i}" in texts for i in range(total) for a in ("trigger", "resolve"))


async def test_run_delivers_at_once_and_stops() -> None:
    clock, store, slow = FakeClock(NOW), MemoryOutbox(), Scripted()
    stuck = asyncio.Event()

    class Stuck(Scripted):
        async def send(self, notification: Notification, now: float) -> Delivery:
            await stuck.wait()
            return SENT

    outbox = Outbox(store, {"r": slow, "stuck": Stuck()}, clock)
    stop = asyncio.Event()
    task = asyncio.create_task(outbox.run(stop, every=30.0))
    await asyncio.sleep(0)
    store.add([note(1, receiver="stuck")], NOW)
    outbox.wake()
    for number in range(2, 5):
        store.add([note(number)], NOW)
        outbox.wake()
        async with asyncio.timeout(10):
            while len(slow.sent) < number - 1:
                await asyncio.sleep(0.001)
    stop.set()
    async with asyncio.timeout(10):
        await task


def test_the_heartbeat_beats_only_while_a_whole_loop_closes_in_time() -> None:
    settings = HeartbeatSettings("https://hc.example/x", every=60.0, within=1800.0)
    beat = Heartbeat()
    assert not beat.due(settings, NOW), "an agent that never read a canary back never pings"
    beat = beat.loop_closed(NOW - 100, NOW - 40)
    assert beat.due(settings, NOW)
    assert not beat.pinged(NOW).due(settings, NOW + 59)
    assert beat.pinged(NOW).due(settings, NOW + 60)
    assert not beat.pinged(NOW).due(settings, NOW + 1701), "sent too long ago"
    assert beat.loop_closed(NOW + 900, NOW + 100) is beat, "read before it was sent: a clock is wrong"
    assert not beat.alive(settings, NOW - 3600), "the clock went back"


async def test_ping(nasty: Nasty) -> None:
    async with AiohttpPoster() as http:
        assert not await ping(HeartbeatSettings("http://127.0.0.1:1/"), http, NOW, 1.0)
        assert await ping(HeartbeatSettings(""), http, NOW)


class Held:
    """A receiver that answers once it is let."""

    per_minute, digests = 6000.0, False

    def __init__(self) -> None:
        self.begun, self.let = asyncio.Event(), asyncio.Event()
        self.sent: list[Notification] = []

    async def send(self, notification: Notification, now: float) -> Delivery:
        self.sent.append(notification)
        self.begun.set()
        await self.let.wait()
        return SENT


async def test_what_is_under_way_when_the_receiver_is_given_away_is_marked() -> None:
    clock, store, held = FakeClock(NOW), MemoryOutbox(), Held()
    store.add([note(1), note(2)], NOW)
    outbox, stop = Outbox(store, {"r": held}, clock), asyncio.Event()
    running = asyncio.create_task(outbox.run(stop, every=0.01))
    await held.begun.wait()
    outbox.configure({}, {})
    held.let.set()
    await outbox.ended("r")
    first, second = store.rows.values()
    assert first.sent_at is not None
    assert (second.sent_at, second.leased_until) == (None, 0.0), "the next one takes it at once"
    assert len(held.sent) == 1
    stop.set()
    await running


async def test_who_is_not_sure_any_more_begins_nothing_and_breaks_off() -> None:
    clock, store, held = FakeClock(NOW), MemoryOutbox(), Held()
    store.add([note(1)], NOW)
    left = 0.0
    outbox = Outbox(store, {"r": held}, clock, left=lambda: left)
    assert await outbox.step() == 0
    assert held.sent == []
    left = 0.02
    step = asyncio.create_task(outbox.step())
    await held.begun.wait()
    left = 0.0
    assert await step == 0
    assert next(iter(store.rows.values())).item.error.startswith("unreachable broken off")
