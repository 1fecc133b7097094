"""`/probe?module=&target=` for Prometheus (multi-target, as blackbox_exporter has it): one lookup, now.

Targets are those that the config names, so that nobody has the agent ask questions of their own. And
announced changes of records: POST one before making it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from agent.blocklist_plan import sender_subjects, subjects_of, zones_of
from agent.config.models import Config
from agent.records_means import survey_means
from agent.records_plan import domains_of, hosts_of, owners, selectors_of
from agent.store import records
from agent.store.database import Database
from agent.web.body import read_json
from agent.web.probes import problem
from probes.blocklists.judge import Reason
from probes.clock import Clock, rfc3339
from probes.dns_client import DnsResolver
from probes.errors import ConfigError, DataError, StoreError, Unavailable
from probes.outcome import Outcome, Result
from probes.registry import PROBES, Means

TEXT = "text/plain; version=0.0.4; charset=utf-8"
AT_ONCE = 4
LONGEST = 60.0
"""Seconds for one lookup; a scrape's own time-out is shorter."""
MARGIN = 0.5
"""Seconds kept of a scrape's time-out for the answer's way back."""
LONGEST_NOTICE = 90 * 86400.0
"""Seconds for which a change may be announced."""


def targets(config: Config, module: str) -> frozenset[str]:
    """What may be looked up: what the config names."""
    if module == "records":
        return frozenset({*domains_of(config), *owners(config)})
    return frozenset({*subjects_of(config), *sender_subjects(config)})


def add_routes(app: web.Application, config: Callable[[], Config], database: Database, clock: Clock) -> None:
    """Adds the endpoints to the application."""
    lookups = _Lookups(config, database, clock)
    app.router.add_get("/probe", lookups.probe)
    app.router.add_post("/api/v1/records/expected", lookups.announce)


class _Lookups:
    def __init__(self, config: Callable[[], Config], database: Database, clock: Clock) -> None:
        self._config = config
        self._database = database
        self._clock = clock
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def probe(self, request: web.Request) -> web.Response:
        """Metrics of one lookup."""
        module, target = request.query.get("module", ""), request.query.get("target", "").lower()
        if module not in PROBES:
            return web.Response(text=f"module is one of {', '.join(PROBES)}\n", status=400)
        config = self._config()
        if target not in targets(config, module):
            return web.Response(text="the target is none that the config names\n", status=400)
        started = self._clock.monotonic()
        found = await self._look(config, module, target, _limit(request))
        seconds = max(0.0, self._clock.monotonic() - started)
        return web.Response(body=exposition(found, seconds), headers={"Content-Type": TEXT})

    async def _look(self, config: Config, module: str, target: str, limit: float) -> Result | None:
        """None where it could not be done in time, or at all."""
        try:
            async with asyncio.timeout(limit), self._gate:
                state = await self._database.read(lambda conn: records.get_state(conn, target))
                seen = tuple(state.selectors) if state else ()
                return await PROBES[module](target, self._means(config, module, target, seen))
        except (TimeoutError, ConfigError, Unavailable, StoreError):
            return None

    def _means(self, config: Config, module: str, target: str, selectors: tuple[str, ...]) -> Means:
        """selectors: of DKIM, that the agent has seen in use."""
        cache = 1000 if module == "records" else 0  # controls prove nothing of an answer from memory
        servers = list(config.resolver.nameservers) or None
        resolver = DnsResolver(servers, timeout=config.resolver.timeout, cache=cache, clock=self._clock)
        if module == "blocklist":
            zones = zones_of(config) if config.blocklists else None
            return Means(resolver, self._clock, zones=zones)
        section = config.records
        means = survey_means(
            resolver,
            self._clock,
            ca_file=str(section.ca_file) if section and section.ca_file else None,
            allow_loopback=bool(section and section.allow_loopback),
            dns_only=bool(section and not section.contact),
        )
        return Means(
            resolver,
            self._clock,
            fetcher=means.fetcher,
            selectors={target: (*selectors_of(config, target), *selectors)},
            senders={target: hosts_of(config, target)},
            reach=means.reach,
            authorities=means.authorities,
        )

    async def announce(self, request: web.Request) -> web.Response:
        """A change that is meant: {"name", "type", "value" (any, when left out), "seconds"}."""
        try:
            item = _announced(await read_json(request), self._clock.wall())
        except (DataError, ArithmeticError, ValueError, KeyError, TypeError, AttributeError):
            return problem(
                400, "the body is a JSON object with name, type, value and seconds (at most 90 days)"
            )
        await self._database.write(lambda tx: records.announce(tx.conn, item, self._clock.wall()))
        body = {"schema": "mailcanary.expected/1", **item, "until": rfc3339(item["until"])}
        return web.json_response(body, status=201)


def _limit(request: web.Request) -> float:
    try:
        wanted = float(request.headers.get("X-Prometheus-Scrape-Timeout-Seconds", LONGEST)) - MARGIN
    except ValueError:
        wanted = LONGEST
    return min(max(wanted, 0.1), LONGEST) if math.isfinite(wanted) else LONGEST


def _announced(body: Mapping[str, Any], now: float) -> dict[str, Any]:
    name, rdtype = str(body["name"]).lower().rstrip("."), str(body["type"]).upper()
    value, seconds = body.get("value"), float(body.get("seconds", 3600.0))
    if not 0 < len(name) <= 253 or not rdtype.isalnum() or len(rdtype) > 16:
        raise ValueError("name or type")
    if not 0 < seconds <= LONGEST_NOTICE or (value is not None and len(str(value)) > 4096):
        raise ValueError("seconds or value")
    until = now + seconds
    return {"name": name, "type": rdtype, "value": None if value is None else str(value), "until": until}


def exposition(found: Result | None, seconds: float) -> bytes:
    """A result as metrics. probe_success is absent where the outcome is unknown: neither good nor bad."""
    registry = CollectorRegistry(auto_describe=False)
    outcome = found.outcome if found else Outcome.UNKNOWN

    def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=registry)

    if outcome is not Outcome.UNKNOWN:
        gauge("probe_success", "1 where all is well, 0 where not; absent while unknown").set(
            float(outcome is Outcome.PASS)
        )
    gauge("probe_unknown", "1 where not all could be seen").set(float(outcome is Outcome.UNKNOWN))
    gauge("probe_duration_seconds", "How long the lookup took").set(seconds)
    if found is not None and found.probe == "records":
        family = gauge("probe_record_findings", "Findings", ("kind", "severity"))
        for item in _items(found, "findings"):
            level = "unknown" if item["outcome"] == Outcome.UNKNOWN else item["severity"]
            family.labels(item["kind"], level).inc()
    elif found is not None:
        listed = gauge(
            "probe_blocklist_listed", "1 for each zone that lists the subject", ("subject", "zone")
        )
        unseen = gauge("probe_blocklist_unknown", "Zones that could not be asked")
        for item in _items(found, "listings"):
            if item["outcome"] == Outcome.FAIL:
                listed.labels(item["subject"], item["zone"]).set(1.0)
            elif item["outcome"] == Outcome.UNKNOWN and item["reason"] != Reason.NOT_APPLICABLE:
                unseen.inc()
    return generate_latest(registry)


def _items(found: Result, name: str) -> list[dict[str, str]]:
    items: Any = found.data[name]
    return list(items)
