"""Metrics as an agent of some size has them: every family filled, labels that need escaping among them."""

from __future__ import annotations

import random
from collections.abc import Iterable

from agent.config.models import Route
from agent.metrics import Metrics
from agent.metrics.routes import Verdict
from probes.canary.state import Canary, Moment, Reply, State
from probes.outcome import Outcome, Placement

NOW = 1_790_000_000.5
PROVIDERS = ("gmail", "outlook", "yahoo", "icloud", "gmx", "fastmail", "zoho", "aol", "web.de", "generic")


def canary(sender: str, seed: str, provider: str, **changes: object) -> Canary:
    """A canary that was seen in the inbox."""
    facts: dict[str, object] = {
        "id": "1",
        "token": "t",
        "message_id": "<m@x.test>",
        "sender": sender,
        "seed": seed,
        "provider": provider,
        "round": "",
        "created": Moment(NOW - 60.0, 100.0, "boot"),
        "deadline": 600.0,
        "late_after": 3600.0,
        "state": State.SETTLED,
        "placement": Placement.INBOX,
        "outcome": Outcome.PASS,
        "settled_at": NOW - 50.0,
        "seen_at": NOW - 50.0,
        "latency": 3.25,
        "attempts": 1,
        "reply": Reply(250, "2.0.0", "queued", "data", "accepted"),
        "stages": dict.fromkeys(("connect", "tls", "ehlo", "auth", "mail", "rcpt", "data"), 0.02),
        "verdicts": {"spf": "pass", "dkim": "pass", "dmarc": "pass", "arc": "none"},
    }
    return Canary(**(facts | changes))  # type: ignore[arg-type]


def fill(metrics: Metrics, senders: Iterable[str], seeds: Iterable[str], share_unknown: float = 0.1) -> None:
    """Every route has a verdict and every pair its counters, as after some hours of work."""
    source = random.Random(7)
    by_seed = {seed: PROVIDERS[n % len(PROVIDERS)] for n, seed in enumerate(seeds)}
    everyone = list(senders)
    metrics.routes.configure(Route(s, t, 900.0, 600.0, 3600.0) for s in everyone for t in by_seed)
    metrics.configure({(s, p) for s in everyone for p in by_seed.values()}, ["oncall"])
    for sender in everyone:
        for provider in set(by_seed.values()):
            one = canary(sender, "", provider, latency=source.expovariate(0.1))
            metrics.submitted(one)
            metrics.settled(one)
        for seed in by_seed:
            unknown = source.random() < share_unknown
            metrics.routes.success((sender, seed), NOW - 1000.0 * source.random())
            outcome = Outcome.UNKNOWN if unknown else source.choice((Outcome.PASS, Outcome.FAIL))
            metrics.routes.note(Verdict(sender, seed, outcome, "clock", NOW - source.random() * 100, None))
