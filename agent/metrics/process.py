"""All metrics of one agent: what the runner tells it, and how a scrape is rendered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from agent import __version__
from agent.metrics import budget, specs
from agent.metrics.families import Histogram, Numbers, Values, metric_text
from agent.metrics.routes import Routes, Verdict
from alerts.observation import CanaryResult
from probes.canary.state import Canary
from probes.errors import StoreError
from probes.outcome import Outcome, Placement

STAGES = ("dns", "connect", "tls", "ehlo", "auth", "mail", "rcpt", "data")
METHODS = ("spf", "dkim", "dmarc", "arc")
RESULTS = frozenset("none pass fail softfail neutral policy temperror permerror ambiguous".split())
KINDS = ("mailbox", "evaluator", "receiver", "blocklists", "round", "upkeep")
PIECE = 256 * 1024
"""Bytes that are handed on at once, about."""


class Collects(Protocol):
    """Gives the metric families of the states that the store holds."""

    def __call__(self) -> Iterable[Metric]: ...


class Metrics:
    """The process's own counters and what the runner tells it."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.speaks: Callable[[], bool] = lambda: True
        """Whether this agent shows what the store holds: of many, one does, so that nothing counts twice."""
        self._rendering = Lock()
        self._states: list[Collects] = []
        self._own: list[Collects] = []
        self.routes = Routes(now)
        self.refused = Numbers(specs.REFUSED)
        self.canaries = self._numbers(specs.CANARIES)
        self.results = self._numbers(specs.RESULTS)
        self.late = self._numbers(specs.LATE)
        self.duplicates = self._numbers(specs.DUPLICATES)
        self.delivery = Histogram(specs.DELIVERY)
        self.stages = Histogram(specs.STAGE)
        self.replies = self._numbers(specs.REPLIES)
        self.authentication = self._numbers(specs.AUTHENTICATION)
        self.lookups = self._numbers(specs.LOOKUPS)
        self.record_changes = self._numbers(specs.RECORD_CHANGES)
        self.notifications = self._numbers(specs.NOTIFICATIONS)
        self.notification_failures = self._numbers(specs.NOTIFICATION_FAILURES)
        self.notification_delay = Histogram(specs.NOTIFICATION_DELAY)
        self.reload_ok = self._numbers(specs.RELOAD_OK)
        self.reload_at = self._numbers(specs.RELOAD_AT)
        self.loop_lag = self._numbers(specs.LOOP_LAG)
        self.store_readable = self._numbers(specs.STORE_READABLE)
        self.leases_held = self._numbers(specs.LEASES_HELD)
        for kind in KINDS:
            self.leases_held.labels(kind)
        self.series = self._numbers(specs.SERIES)
        self.render_seconds = self._numbers(specs.RENDER)
        self.build = self._numbers(specs.BUILD_INFO)
        self.build.labels(__version__).set(1.0)
        self._process = ProcessCollector(registry=None)

    def _numbers(self, spec: specs.Spec) -> Numbers:
        return Numbers(spec, lambda name: self.refused.labels(name).inc())

    def families(self) -> list[Numbers | Histogram]:
        """Every family of the process."""
        return [family for family in vars(self).values() if isinstance(family, Numbers | Histogram)]

    def add(self, collects: Collects, *, own: bool = False) -> None:
        """Adds the states of the store to what a scrape shows; own: what this agent alone knows."""
        (self._own if own else self._states).append(collects)

    def configure(self, pairs: Iterable[Values], receivers: Iterable[str] = ()) -> None:
        """Takes the pairs of sender and provider of a config.

        Their counters exist from the start, so that increase() sees the first; those of pairs that left go.
        """
        wanted = frozenset(pairs)
        senders = frozenset(pair[0] for pair in wanted)
        for family in self.families():
            if family.spec.labels[:2] == specs.PAIR:
                family.keep(lambda values: values[:2] in wanted)
        self.stages.keep(lambda values: values[0] in senders)
        self.authentication.limit = budget.authentication_limit(len(wanted))
        self.replies.limit = budget.replies_limit(len(wanted))
        for pair in wanted:
            self._create_pair(pair)
        for receiver in receivers:
            self.notifications.labels(receiver)

    def _create_pair(self, pair: Values) -> None:
        self.late.labels(*pair)
        self.duplicates.labels(*pair)
        for placement in Placement:
            self.canaries.labels(*pair, placement.value)
        for outcome in Outcome:
            self.results.labels(*pair, outcome.value)

    def settled(self, canary: Canary) -> None:
        """A canary got its placement."""
        placement = (canary.placement or Placement.UNKNOWN).value
        outcome = (canary.outcome or Outcome.UNKNOWN).value
        self.canaries.labels(canary.sender, canary.provider, placement).inc()
        self.results.labels(canary.sender, canary.provider, outcome).inc()
        if canary.latency is not None and canary.latency >= 0 and canary.seen_at is not None:
            self.delivery.labels(canary.sender, canary.provider).observe(canary.latency)
        for method in METHODS:
            result = canary.verdicts.get(method)
            if result in RESULTS:
                self.authentication.labels(canary.sender, canary.provider, method, result).inc()

    def submitted(self, canary: Canary) -> None:
        """An attempt to submit ended."""
        for stage in STAGES:
            if stage in canary.stages:
                self.stages.labels(canary.sender, stage).observe(canary.stages[stage])
        if canary.reply:
            meaning = canary.reply.meaning or "other"
            code = str(canary.reply.code) if 200 <= canary.reply.code < 600 else "other"
            self.replies.labels(canary.sender, canary.provider, code, meaning).inc()

    def judged(self, canary: Canary) -> None:
        """A canary has a verdict: the newest one speaks for its route."""
        if canary.outcome is None:
            return
        seen = canary.seen_at if canary.outcome is Outcome.PASS else None
        self.routes.note(
            Verdict(canary.sender, canary.seed, canary.outcome, canary.reason, canary.created.wall, seen)
        )

    def evaluated(self, result: CanaryResult) -> None:
        """A verdict that any agent of the fleet reached."""
        created = result.at if result.sent_at is None else result.sent_at
        seen = None
        if result.outcome is Outcome.PASS:
            seen = result.at if result.latency is None else created + result.latency
        self.routes.note(Verdict(result.sender, result.seed, result.outcome, result.reason, created, seen))

    def pieces(self) -> Iterator[bytes]:
        """The exposition (text format 0.0.4), in pieces. To be run in a thread, not on the loop.

        With the store away it shows what the process itself knows: a gauge that is absent says nothing, and
        an agent that works is not taken for a dead one.
        """
        with self._rendering:
            began = time.monotonic()
            count, held, size = 0, [], 0
            for text in self._texts():
                # Each sample is a line of its own, but for the two lines of a header.
                count += text.count("\n") if not text.startswith("#") else 0
                held.append(text)
                size += len(text)
                time.sleep(0)  # the loop may want the interpreter: it need not wait for its switch interval
                if size >= PIECE:
                    yield "".join(held).encode()
                    held, size = [], 0
            yield "".join(held).encode()
            self.series.set(float(count))
            self.render_seconds.set(time.monotonic() - began)

    def _texts(self) -> Iterator[str]:
        speaks = self.speaks()
        own = [metric for collects in self._own for metric in collects()]
        small = [*self._process.collect(), *own, *(self._stored() if speaks else ())]
        for family in self.families():
            yield from family.text()
        if speaks:
            yield from self.routes.text()
        for metric in small:
            yield from metric_text(metric)

    def _stored(self) -> list[Metric]:
        try:
            found = [metric for states in self._states for metric in states()]
        except StoreError:
            found = []
            self.store_readable.set(0.0)
        else:
            self.store_readable.set(1.0)
        return found

    def beat(self, through: bool, held: Mapping[str, int]) -> None:
        """A heartbeat reached the store, or did not. held: resources by kind."""
        self.store_readable.set(float(through))
        for kind in KINDS:
            self.leases_held.labels(kind).set(float(held.get(kind, 0)))

    def render(self) -> bytes:
        """The whole exposition at once."""
        return b"".join(self.pieces())

    def registry(self) -> CollectorRegistry:
        """The same for prometheus_client's own generate_latest, which is slower and the judge of our text."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_All(self))
        return registry

    def collect(self) -> Iterable[Metric]:
        """Every family with its samples."""
        stored = self._stored() if self.speaks() else []
        for family in self.families():
            yield from family.collect()
        yield from self._process.collect()
        for collects in self._own:
            yield from collects()
        if self.speaks():
            yield from self.routes.collect()
        yield from stored


class _All(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics.collect()
