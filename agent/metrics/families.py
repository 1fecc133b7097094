"""Counters, gauges and histograms that keep the line each child was last shown as.

A scrape of 400,000 series is then little more than a join: only what has changed since the last one is
written anew. Values are changed on the loop; one thread at a time renders.

What counts is 0 in the first scrape that shows it: increase() does not see what a series begins with, and the
first refusal of a kind must not be the one that nobody sees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from agent.metrics.specs import Spec

BATCH = 2000
"""Children a piece of text covers."""

Values = tuple[str, ...]
number: Callable[[float], str] = floatToGoString
"""A float as the text format wants it."""


class Shown(Protocol):
    """One child of a family."""

    def text(self) -> str:
        """Its lines."""
        ...


def escape(value: str) -> str:
    """A label value as the text format wants it."""
    if "\\" in value or "\n" in value or '"' in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value


def labelled(name: str, labels: Iterable[tuple[str, str]]) -> str:
    """`name{a="b"}`, labels in the order of their names."""
    inside = ",".join(f'{key}="{escape(value)}"' for key, value in sorted(labels))
    return f"{name}{{{inside}}}" if inside else name


def header(name: str, kind: str, text: str) -> str:
    """The HELP and TYPE lines."""
    escaped = text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {escaped}\n# TYPE {name} {kind}\n"


class Value:
    """A counter's or gauge's child."""

    __slots__ = ("_counts", "_name", "_shown", "_text", "value")

    def __init__(self, name: str, counts: bool) -> None:
        self.value = 0.0
        self._counts = counts
        self._name = name
        self._shown: float | None = None
        self._text = ""

    def inc(self, amount: float = 1.0) -> None:
        """Adds."""
        self.value += amount

    def set(self, value: float) -> None:
        """Replaces."""
        self.value = value

    @property
    def told(self) -> float:
        """What a scrape shows now."""
        return 0.0 if self._counts and self._shown is None else self.value

    def text(self) -> str:
        """Its line."""
        if self.value != self._shown:
            value = self.told
            self._text, self._shown = f"{self._name} {number(value)}\n", value
        return self._text


class Distribution:
    """A histogram's child."""

    __slots__ = ("_buckets", "_names", "_shown", "_text", "_total", "counts", "observed")

    def __init__(self, name: str, buckets: tuple[float, ...], labels: tuple[tuple[str, str], ...]) -> None:
        bounds = (*map(number, buckets), "+Inf")
        self._buckets = buckets
        self._names = tuple(labelled(f"{name}_bucket", (*labels, ("le", bound))) for bound in bounds)
        self._total = (labelled(f"{name}_count", labels), labelled(f"{name}_sum", labels))
        self.counts = [0] * len(bounds)
        self.observed = 0.0
        self._shown: int | None = None
        self._text = ""

    def observe(self, value: float) -> None:
        """Counts a value; a bucket holds what is at most its bound."""
        self.observed += value
        self.counts[bisect_left(self._buckets, value)] += 1

    @property
    def told(self) -> tuple[list[int], float]:
        """What a scrape shows now: counts by bucket, and their sum."""
        return ([0] * len(self.counts), 0.0) if self._shown is None else (self.counts[:], self.observed)

    def text(self) -> str:
        """Its lines."""
        if sum(self.counts) != self._shown:
            counts, observed = self.told
            seen = sum(counts)
            lines = [f"{n} {number(c)}\n" for n, c in zip(self._names, accumulate(counts), strict=True)]
            lines += [f"{self._total[0]} {number(seen)}\n", f"{self._total[1]} {number(observed)}\n"]
            self._text, self._shown = "".join(lines), seen
        return self._text


Child = TypeVar("Child", bound=Shown)


class Family(ABC, Generic[Child]):
    """A metric with its children. limit: most children; what would be more goes to `refused`."""

    def __init__(
        self, spec: Spec, make: Callable[[Values], Child], refused: Callable[[str], None] | None = None
    ) -> None:
        self.spec = spec
        self.limit: int | None = None
        self._make = make
        self._refused = refused
        self._children: dict[Values, Child] = {}

    def labels(self, *values: str) -> Child:
        """The child with those label values, made on first use."""
        child = self._children.get(values)
        if child is not None:
            return child
        if len(values) != len(self.spec.labels):
            raise ValueError(f"{self.spec.name} has the labels {self.spec.labels}")
        child = self._make(values)
        if self.limit is not None and len(self._children) >= self.limit:
            if self._refused is not None:
                self._refused(self.spec.name)
            return child  # it counts, and nobody sees it
        self._children[values] = child
        return child

    def keep(self, wanted: Callable[[Values], bool]) -> None:
        """Drops the children whose label values are not wanted any more."""
        self._children = {values: child for values, child in self._children.items() if wanted(values)}

    def children(self) -> list[tuple[Values, Child]]:
        """Label values and children, as they are now."""
        return list(self._children.items())

    def text(self) -> Iterator[str]:
        """The exposition, in pieces."""
        yield header(self.spec.full_name, self.spec.type, self.spec.help)
        children = list(self._children.values())
        for start in range(0, len(children), BATCH):
            yield "".join([child.text() for child in children[start : start + BATCH]])

    @abstractmethod
    def collect(self) -> Iterable[Metric]:
        """The same for prometheus_client."""


class Numbers(Family[Value]):
    """A counter or a gauge."""

    def __init__(self, spec: Spec, refused: Callable[[str], None] | None = None) -> None:
        def make(values: Values) -> Value:
            name = labelled(spec.full_name, zip(spec.labels, values, strict=True))
            return Value(name, spec.type == "counter")

        super().__init__(spec, make, refused)
        if not spec.labels:
            self.labels()

    def inc(self, amount: float = 1.0) -> None:
        """Adds, where there are no labels."""
        self.labels().inc(amount)

    def set(self, value: float) -> None:
        """Replaces, where there are no labels."""
        self.labels().set(value)

    def collect(self) -> Iterable[Metric]:
        """The same for prometheus_client."""
        spec, counter = self.spec, self.spec.type == "counter"
        kind = CounterMetricFamily if counter else GaugeMetricFamily
        family = kind(spec.full_name, spec.help, labels=spec.labels)
        for values, child in self.children():
            family.add_metric(values, child.told)
        yield family


class Histogram(Family[Distribution]):
    """A histogram with the buckets of its spec."""

    def __init__(self, spec: Spec) -> None:
        def make(values: Values) -> Distribution:
            return Distribution(spec.full_name, spec.buckets, tuple(zip(spec.labels, values, strict=True)))

        super().__init__(spec, make)

    def collect(self) -> Iterable[Metric]:
        """The same for prometheus_client."""
        family = HistogramMetricFamily(self.spec.full_name, self.spec.help, labels=self.spec.labels)
        bounds = (*map(number, self.spec.buckets), "+Inf")
        for values, child in self.children():
            counts, observed = child.told
            family.add_metric(
                values, list(zip(bounds, map(float, accumulate(counts)), strict=True)), observed
            )
        yield family


def metric_text(metric: Metric) -> Iterator[str]:
    """The exposition of a family made by prometheus_client's own classes: the small ones."""
    name = metric.name + "_total" if metric.type == "counter" else metric.name
    yield header(name, metric.type, metric.documentation)
    yield "".join(
        f"{labelled(sample.name, sample.labels.items())} {number(sample.value)}\n"
        for sample in metric.samples
    )
