"""What Prometheus sees. Counters and histograms live in the process; states are read from the store.

Labels come from config ids and closed enums only; a route level exists for gauges alone, so that the
number of series is bounded by the config.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from agent import __version__
from probes.canary.state import Canary
from probes.outcome import Placement

STAGES = ("dns", "connect", "tls", "ehlo", "auth", "mail", "rcpt", "data")
METHODS = ("spf", "dkim", "dmarc", "arc")
RESULTS = frozenset("none pass fail softfail neutral policy temperror permerror ambiguous".split())
DELIVERY_BUCKETS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
STAGE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
PREFIX = "mailcanary"


class Collects(Protocol):
    """Gives the metric families of the states that the store holds."""

    def __call__(self) -> Iterable[Metric]: ...


@dataclass(frozen=True, slots=True)
class Documented:
    """A metric as the documentation shows it."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


class Metrics:
    """The process's own registry and what the runner tells it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.canaries = self._counter(
            "canaries_total", "Canaries by where they landed.", "sender", "provider", "placement"
        )
        self.late = self._counter(
            "canary_late_total",
            "Canaries that arrived after they were declared missing.",
            "sender",
            "provider",
        )
        self.duplicates = self._counter(
            "canary_duplicates_total", "Further copies of a canary already seen.", "sender", "provider"
        )
        self.delivery = self._histogram(
            "canary_delivery_seconds",
            "From the relay's final reply to the sight in the mailbox.",
            DELIVERY_BUCKETS,
            "sender",
            "provider",
        )
        self.stages = self._histogram(
            "smtp_stage_seconds", "Time each stage of a submission took.", STAGE_BUCKETS, "sender", "stage"
        )
        self.replies = self._counter(
            "smtp_replies_total", "Last SMTP replies.", "sender", "provider", "code", "meaning"
        )
        self.authentication = self._counter(
            "authentication_results_total",
            "The seed provider's own authentication verdicts.",
            "sender",
            "provider",
            "method",
            "result",
        )
        self.lookups = self._counter(
            "blocklist_lookups_total", "Blocklist lookups by what they found.", "zone", "result"
        )
        self.notifications = self._counter("notifications_total", "Notifications delivered.", "receiver")
        self.notification_failures = self._counter(
            "notification_failures_total", "Failed attempts to deliver a notification.", "receiver", "reason"
        )
        self.notification_delay = self._histogram(
            "notification_delay_seconds",
            "From a notification's creation to its delivery.",
            DELIVERY_BUCKETS,
            "receiver",
        )
        self.reload_ok = self._gauge(
            "config_last_reload_successful", "1 where the last reload of the config was good."
        )
        self.reload_at = self._gauge(
            "config_last_reload_success_timestamp_seconds", "When the config was last loaded."
        )
        self.loop_lag = self._gauge("loop_lag_seconds", "How late the event loop last woke up.")
        info = self._gauge("build_info", "The version that runs.", "version")
        info.labels(__version__).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, labels, buckets=buckets, registry=self.registry)

    def add(self, collects: Collects) -> None:
        """Adds the states of the store to what a scrape shows."""
        self.registry.register(_StoreCollector(collects))

    def create_at_zero(self, senders: Iterable[str], providers: Iterable[str]) -> None:
        """Counters exist from the start, so that rate() sees their first increase."""
        wanted = tuple(providers)
        for sender in senders:
            for provider in wanted:
                self.late.labels(sender, provider)
                self.duplicates.labels(sender, provider)
                for placement in Placement:
                    self.canaries.labels(sender, provider, placement.value)

    def settled(self, canary: Canary) -> None:
        """A canary got its placement."""
        placement = (canary.placement or Placement.UNKNOWN).value
        self.canaries.labels(canary.sender, canary.provider, placement).inc()
        if canary.latency is not None and canary.seen_at is not None:
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
            code = str(canary.reply.code)
            self.replies.labels(canary.sender, canary.provider, code, meaning).inc()

    def documented(self) -> Iterator[Documented]:
        """Every metric that the process itself counts."""
        for family in (m for m in vars(self).values() if isinstance(m, Counter | Gauge | Histogram)):
            described = next(iter(family.describe()))
            suffix = "_total" if described.type == "counter" else ""
            yield Documented(
                described.name + suffix, described.type, tuple(family._labelnames), described.documentation
            )

    def render(self) -> bytes:
        """The exposition text. Takes long with many series: call it off the loop."""
        return generate_latest(self.registry)


class _StoreCollector:
    def __init__(self, collects: Collects) -> None:
        self._collects = collects

    def collect(self) -> Iterable[Metric]:
        return self._collects()


def gauge(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    """A gauge family with its samples."""
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family
