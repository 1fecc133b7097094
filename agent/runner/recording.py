"""Looks at the DNS records of every watched domain: what is wrong, what has changed, and whom it concerns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import structlog

from agent.config.models import Config
from agent.records_means import survey_means
from agent.records_plan import affected, domains_of, hosts_of, selectors_of
from agent.runner.seen_mail import of_domain, seen_mail
from agent.runner.services import Services
from agent.runner.turns import take_turn
from agent.store import records, rows
from agent.store.database import Tx
from agent.store.records import RecordState
from alerts.observation import OwnState, RecordSeen, observation_to_json
from alerts.settings import AlertKind
from probes.dns_client import DnsResolver
from probes.errors import MailcanaryError
from probes.outcome import Result, Severity
from probes.records.announced import Announced, is_announced
from probes.records.drift import Comparison, Event, Key, Known, Seen, compare, kind_of
from probes.records.faults import Fault, FaultChanges, compare_faults
from probes.records.senders import SendingHost
from probes.records.snapshot import Snapshots, with_policy
from probes.records.survey import Survey, findings_of, survey

log = structlog.get_logger("records")
PREFIX = "records"
AGAIN = 60.0
"""Seconds until the next look where something waits to be confirmed."""
MEMORY = 30.0
"""Seconds for which one look may answer its own questions from memory."""

_WEIGHTY = frozenset({"mx", "spf", "dkim", "dmarc", "ns", "dnssec"})


def schedules(config: Config) -> dict[str, float]:
    """The schedules of all watched domains, with their intervals in seconds."""
    every = config.records.every if config.records else 0.0
    return {f"{PREFIX}:{domain}": every for domain in domains_of(config)}


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a domain. seen: its records; result: what is wrong; at: epoch seconds."""

    domain: str
    seen: Mapping[Key, Seen | None]
    result: Result
    selectors: Sequence[str]
    at: float
    senders: tuple[str, ...] = ()
    nameserver: str = ""


@dataclass
class Recording:
    """Looks at a domain when its schedule is due."""

    services: Services

    async def scheduled(self, name: str) -> None:
        """A hint: a domain may be due."""
        config = self.services.config
        domain = name.partition(":")[2]
        if name not in schedules(config) or config.records is None:
            return
        if not await take_turn(self.services, name, config.records.every):
            return
        try:
            await self.look(config, domain)
        except MailcanaryError as error:
            log.error("the records could not be looked at", domain=domain, error=str(error))

    async def look(self, config: Config, domain: str) -> Result:
        """Looks at all records of a domain once, and remembers what it found."""
        look = await self._take(config, domain)
        changed = await self.services.database.write(lambda tx: self._remember(tx, config, look))
        counters = self.services.metrics.record_changes
        for key in look.seen:
            counters.labels(domain, kind_of(*key))  # there from the start, so that increase() sees the first
        for event in changed:
            counters.labels(domain, kind_of(event.name, event.rdtype)).inc()
            log.info("record", domain=domain, change=event.kind, name=event.name, type=event.rdtype)
        return look.result

    async def _take(self, config: Config, domain: str) -> Look:
        services, section = self.services, config.records
        assert section is not None
        senders = affected(config, domain)
        state, mail = await services.database.read(
            lambda conn: (records.get_state(conn, domain), seen_mail(conn, config, senders))
        )
        seen_hosts, seen_selectors = of_domain(mail, domain)
        hosts = _merged(hosts_of(config, domain), seen_hosts)
        selectors = tuple(dict.fromkeys([*selectors_of(config, domain), *sorted(seen_selectors)]))
        resolver = DnsResolver(
            list(config.resolver.nameservers) or None,
            timeout=config.resolver.timeout,
            max_ttl=MEMORY,
            max_negative_ttl=MEMORY,
            clock=services.clock,
        )
        means = survey_means(
            resolver,
            services.clock,
            ca_file=str(section.ca_file) if section.ca_file else None,
            allow_loopback=section.allow_loopback,
            dns_only=not section.contact,
        )
        first_seen = dict(state.selectors) if state else {}
        seen = await Snapshots(resolver, means.authorities).take(domain, selectors, hosts)
        result = await survey(Survey(domain, selectors, hosts, first_seen), means)
        seen = with_policy(domain, seen, result.data)
        return Look(domain, seen, result, selectors, services.clock.wall(), senders, resolver.nameservers[0])

    def _remember(self, tx: Tx, config: Config, look: Look) -> list[Event]:
        self.services.fence(tx)
        state = records.get_state(tx.conn, look.domain)
        announced = [*_configured(config), *map(_of_api, records.announced(tx.conn, look.at))]

        def expected(name: str, rdtype: str, now: tuple[str, ...]) -> bool:
            return is_announced(announced, name, rdtype, now, look.at)

        drift = compare(state.records if state else {}, look.seen, expected)
        faults = compare_faults(
            {key: _fault(item) for key, item in state.faults.items()} if state else None,
            findings_of(look.result),
            {key[0] for key, known in drift.known.items() if known.bad} | {e.name for e in drift.events},
        )
        for event in drift.events:
            records.add_event(tx.conn, look.domain, event, look.at, look.senders)
        for seen in [*_drift_seen(look, drift), *_fault_seen(look, faults)]:
            rows.observe(tx, look.at, "record", observation_to_json(seen))
        self._own_state(tx, config, look)
        records.put_state(tx.conn, _next_state(state, look, drift, faults))
        if faults.waiting or any(
            known.pending is not None or known.split == 1 for known in drift.known.values()
        ):
            self._soon(tx, look)
        return drift.events

    def _soon(self, tx: Tx, look: Look) -> None:
        row = rows.schedule_row(tx.conn, f"{PREFIX}:{look.domain}")
        if row is not None and row.due_at > look.at + AGAIN:
            rows.move_schedule(tx.conn, row, look.at + AGAIN, None)

    def _own_state(self, tx: Tx, config: Config, look: Look) -> None:
        """Where nothing at all could be seen it is the resolver: our own fault. A sweep of blocklists, where
        there is one, tells that better.
        """
        if config.blocklists is not None:
            return
        able = any(seen is not None for seen in look.seen.values())
        text = "" if able else "it answers no question about records"
        state = OwnState(AlertKind.RESOLVER, look.nameserver, able, look.at, text=text)
        rows.observe(tx, look.at, "own", observation_to_json(state))

    async def forget(self, config: Config) -> None:
        """Drops what is known of domains that left the config."""
        wanted = frozenset(domains_of(config))
        self.services.metrics.record_changes.keep(lambda values: values[0] in wanted)
        await self.services.database.write(lambda tx: records.drop_states(tx.conn, wanted))


def _merged(named: Iterable[SendingHost], seen: Iterable[SendingHost]) -> list[SendingHost]:
    """One host an address; what the config says of it counts."""
    found = {host.address: host for host in sorted(seen, key=lambda host: (host.address, host.helo))}
    return list({**found, **{host.address: host for host in named}}.values())


def _configured(config: Config) -> Iterable[Announced]:
    for item in config.records.expected if config.records else ():
        yield Announced(str(item.name).lower().rstrip("."), item.type, item.value, item.until)


def _of_api(item: Mapping[str, object]) -> Announced:
    value, until = item["value"], item["until"]
    assert isinstance(until, float)
    return Announced(str(item["name"]), str(item["type"]), None if value is None else str(value), until)


def _fault(item: object) -> Fault:
    assert isinstance(item, Mapping)
    return Fault(**{**item, "severity": Severity(item["severity"])})


def _next_state(
    state: RecordState | None, look: Look, drift: Comparison, faults: FaultChanges
) -> RecordState:
    known = dict(state.selectors) if state else {}
    return RecordState(
        domain=look.domain,
        at=look.at,
        outcome=look.result.outcome.value,
        records=drift.known,
        faults={key: asdict(fault) for key, fault in faults.known.items()},
        selectors={selector: known.get(selector, look.at) for selector in look.selectors},
        report={**look.result.data, "reason": look.result.reason, "summary": look.result.summary},
    )


def _drift_seen(look: Look, drift: Comparison) -> Iterable[RecordSeen]:
    """Every record that is not as it should be, and every one that is again."""
    for key, known in drift.known.items():
        if known.bad:
            stale = key[1] == "POLICY" and not _moved(drift, f"_mta-sts.{look.domain}")
            yield _record_seen(look, key, known, False, _SAME_ID if stale else "")
    for key in drift.repaired:
        yield _record_seen(look, key, drift.known.get(key), True)


_SAME_ID = "changed, and the id= of its TXT record did not: senders go on with the old policy"


def _moved(drift: Comparison, name: str) -> bool:
    known = drift.known.get((name, "TXT"))
    return known is not None and known.records != known.baseline


def _record_seen(look: Look, key: Key, known: Known | None, ok: bool, reason: str = "") -> RecordSeen:
    name, rdtype = key
    gone = known is not None and not known.records
    kind = kind_of(name, rdtype)
    return RecordSeen(
        domain=look.domain,
        record=f"{rdtype} {name}",
        ok=ok,
        at=look.at,
        severity=Severity.ERROR if kind in _WEIGHTY and gone else Severity.WARNING,
        reason=reason or _reason(known),
        before=" | ".join(known.baseline) if known else "",
        after=" | ".join(known.records) if known else "",
        senders=look.senders,
    )


def _reason(known: Known | None) -> str:
    if known is None or not known.bad:
        return "is as it was"
    if known.records == known.baseline:
        return "is answered differently by its name servers"
    return "changed" if known.records else "is gone"


def _fault_seen(look: Look, faults: FaultChanges) -> Iterable[RecordSeen]:
    for fault in faults.raised:
        yield RecordSeen(
            look.domain, f"{fault.code} {fault.name}", False, look.at, fault.severity, fault.what,
            senders=look.senders,
        )  # fmt: skip
    for fault in faults.cleared:
        yield RecordSeen(look.domain, f"{fault.code} {fault.name}", True, look.at, senders=look.senders)
