"""The lookup probes: name -> function -> Result. One literal map; the canary is a state machine and not here.

`/probe?module=&target=` and the command line run them by name; each gets all it may touch as arguments.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from probes.blocklists.catalogue import Catalogue, Zone, shipped
from probes.blocklists.check import Listing, check, telling
from probes.blocklists.query import domain_name
from probes.blocklists.subjects import expand
from probes.clock import Clock, SystemClock
from probes.dns import Resolver
from probes.http import Fetcher
from probes.outcome import Evidence, Outcome, Result, combine
from probes.records.reach import Reach
from probes.records.senders import SendingHost
from probes.records.servers import Authorities
from probes.records.survey import Survey, SurveyMeans, survey


@dataclass(frozen=True, slots=True)
class Means:
    """What a lookup probe may touch.

    resolver: without a cache; zones: those to ask, None for the enabled; fetcher: for MTA-STS and BIMI, made
    here when None (some milliseconds); selectors: DKIM selectors by domain; senders: hosts that send, by
    domain; reach, authorities: as a survey of records takes them.
    """

    resolver: Resolver
    clock: Clock = field(default_factory=SystemClock)
    catalogue: Catalogue = field(default_factory=shipped)
    zones: Sequence[Zone] | None = None
    fetcher: Fetcher | None = None
    selectors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    senders: Mapping[str, Sequence[SendingHost]] = field(default_factory=dict)
    reach: Reach | None = None
    authorities: Authorities | None = None


LookupProbe = Callable[[str, Means], Awaitable[Result]]


async def blocklist(target: str, means: Means) -> Result:
    """Is this address, network, domain, host:NAME or spf:DOMAIN on a blocklist?

    Raises ConfigError for a target that cannot be looked up, DnsUnavailable where one cannot be resolved.
    """
    at, started = means.clock.wall(), means.clock.monotonic()
    subjects = await expand([target], means.resolver)
    zones = list(means.zones if means.zones is not None else means.catalogue.enabled())
    usable = [zone for zone in zones if any(s.kind in zone.kinds for s in subjects)]
    found = await check(subjects, usable, means.resolver)
    outcome = combine(item.outcome for item in telling(found))
    listed = [item for item in found if item.listed]
    return Result(
        probe="blocklist",
        target=target,
        outcome=outcome,
        reason={Outcome.FAIL: "listed", Outcome.PASS: "not-listed", Outcome.UNKNOWN: "unknown"}[outcome],
        summary=_summary(found),
        at=at,
        seconds=max(0.0, means.clock.monotonic() - started),
        evidence=tuple(Evidence("dns", _line(item), at) for item in listed),
        data={"listings": [_row(item) for item in found]},
    )


async def records(target: str, means: Means) -> Result:
    """Are the records that this domain's mail depends on in order?

    Raises ConfigError for a target that is no domain.
    """
    domain = domain_name(target)
    fetcher = means.fetcher or Fetcher(means.resolver, means.clock)
    what = Survey(domain, means.selectors.get(domain, ()), means.senders.get(domain, ()))
    return await survey(
        what, SurveyMeans(means.resolver, fetcher, means.clock, means.reach, means.authorities)
    )


def _summary(found: Sequence[Listing]) -> str:
    listed = sorted({item.zone for item in found if item.listed})
    unknown = sum(item.listed is None for item in found)
    text = f"listed in {', '.join(listed)}" if listed else "not listed"
    return f"{text}; {len(found)} pairs asked, {unknown} unknown"


def _line(item: Listing) -> str:
    return f"{item.subject} in {item.zone}: {item.meaning} [{' '.join(item.codes)}] {item.txt}".rstrip()


def _row(item: Listing) -> dict[str, object]:
    return {
        "subject": item.subject,
        "zone": item.zone,
        "outcome": item.outcome.value,
        "listed": item.listed,
        "reason": item.reason.value,
        "codes": list(item.codes),
        "meaning": item.meaning,
        "severity": item.severity.value,
        "delist_url": item.delist_url,
        "txt": item.txt,
    }


PROBES: Mapping[str, LookupProbe] = {
    "blocklist": blocklist,
    "records": records,
}
