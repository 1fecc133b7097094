"""How many series a config can make at most: a formula, and the limits that make it hold.

    2 a route                     its verdict (or why there is none) and its last success
    26 a pair of sender, provider 9 placements, 3 verdicts, late, duplicates, a histogram of 12
    77 a sender                   7 stages of a histogram of 11
    dynamic                       authentication results and SMTP replies, each with a limit of its own

What comes on top is small: seeds, senders, zones, receivers, listings (and for those about which resolvers
disagree one for each resolver), the process.
"""

from __future__ import annotations

from agent.config.models import Config
from agent.metrics.specs import DELIVERY_BUCKETS, STAGE_BUCKETS
from probes.outcome import Outcome, Placement

SERIES_LIMIT = 400_000
"""More than this is not good for a Prometheus to scrape at once."""

STAGES_A_SENDER = 7
"""A relay resolves no MX, direct delivery does not log in."""

_EXTRA = 3
"""Series of a histogram besides its buckets: +Inf, count and sum."""

A_PAIR = len(Placement) + len(Outcome) + 2 + len(DELIVERY_BUCKETS) + _EXTRA
A_SENDER = STAGES_A_SENDER * (len(STAGE_BUCKETS) + _EXTRA)
A_ROUTE = 2


def authentication_limit(pairs: int) -> int:
    """Most series of authentication results: as many as methods for each pair, or plenty for a few."""
    return max(4 * pairs, 5_000)


def replies_limit(pairs: int) -> int:
    """Most series of SMTP replies: one for each pair, or plenty for a few."""
    return max(pairs, 2_000)


def most_series(config: Config) -> int:
    """The formula for a config, without its listings."""
    routes = config.routes_resolved
    pairs = len({(route.sender, config.seeds[route.seed].provider) for route in routes})
    zones = 0 if config.blocklists is None else 200
    return series(len(routes), pairs, len(config.senders), len(config.seeds)) + 4 * zones


def series(routes: int, pairs: int, senders: int, seeds: int) -> int:
    """The formula for so many of each."""
    return (
        A_ROUTE * routes
        + A_PAIR * pairs
        + (A_SENDER + 1) * senders
        + 2 * seeds
        + authentication_limit(pairs)
        + replies_limit(pairs)
    )
