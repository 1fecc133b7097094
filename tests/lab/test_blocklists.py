"""G7 on real name servers: an agent asks zones of every behaviour through a resolver with every fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.app import App
from agent.store.tables import alerts, listings, zones
from tests.fakes.sweeping_agent import Tree, observed, rows, status, sweeping_agent
from tests.lab.world.dnsproxy import FAULTS, FaultyResolver
from tests.lab.world.lab import Lab

LISTED, CLEAN, DOMAIN = "198.51.100.7", "198.51.100.8", "bad.example"
TRUSTED = {"healthy.dnsbl.test", "second.dnsbl.test", "domains.dnsbl.test"}


def catalogue(lab: Lab) -> list[Tree]:
    """The lab's zones as the config takes them."""
    kinds = {"ip": ["ipv4"], "domain": ["domain"]}
    found: list[Tree] = [{"zone": b.zone, "kinds": kinds[b.kind]} for b in lab.blocklists.zones.values()]
    for zone in found:
        if zone["zone"] == "healthy.dnsbl.test":
            zone["delist"] = "https://lists.example/remove"
            zone["codes"] = [
                {"code": "127.0.0.2", "text": "a source of spam", "severity": "critical"},
                {"code": "127.0.0.9", "text": "a neighbour of one", "severity": "info"},
            ]
    return found


@asynccontextmanager
async def watched(
    lab: Lab, folder: Path, *, evaluated: bool = False
) -> AsyncIterator[tuple[App, FaultyResolver]]:
    """An agent that asks the lab's zones through a resolver that can be broken."""
    subjects = {"ips": [LISTED, CLEAN], "domains": [DOMAIN], "from_senders": False}
    async with FaultyResolver(lab.resolver_ip) as proxy:
        server = f"{proxy.host}:{proxy.port}"
        async with sweeping_agent(
            folder, [server], catalogue(lab), timeout="400ms", subjects=subjects, evaluated=evaluated
        ) as app:
            yield app, proxy


def open_pairs(app: App) -> set[tuple[str, str]]:
    """What the store holds to be listed."""
    return {(row["subject"], row["zone"]) for row in rows(app, listings) if row["delisted_at"] is None}


def false_ones(app: App, truth: set[tuple[str, str]]) -> list[str]:
    """Listings that are none, and zones that are held to have said "not listed" without being trustworthy."""
    found = [f"{pair} falsely listed" for pair in open_pairs(app) - truth]
    for row in rows(app, zones):
        counts = row["counts"]
        if row["zone"] not in TRUSTED and (row["healthy"] or counts["listed"] or counts["not_listed"]):
            found.append(f"{row['zone']}: {row}")
        listed = sum(zone == row["zone"] for _, zone in truth)
        asked = 1 if row["zone"] == "domains.dnsbl.test" else 2
        if row["zone"] in TRUSTED and counts["not_listed"] > asked - listed:
            found.append(f"{row['zone']} counts {counts}: falsely clean")
    return found


async def test_nothing_is_falsely_listed_or_clean(lab: Lab, tmp_path: Path) -> None:
    truth = {(LISTED, "healthy.dnsbl.test"), (LISTED, "second.dnsbl.test"), (DOMAIN, "domains.dnsbl.test")}
    for subject, zone in truth:
        lab.blocklists.list_(zone, subject)
    async with watched(lab, tmp_path) as (app, proxy):
        for fault in FAULTS:
            proxy.fault = fault
            await app.watching.sweep(anew=True)
            assert not rows(app, listings), fault
            assert not false_ones(app, truth), fault
        proxy.fault = None
        for _ in range(3):  # a busy machine may need more than one
            await app.watching.sweep(anew=True)
            if open_pairs(app) == truth:
                break
        assert open_pairs(app) == truth
        assert not false_ones(app, truth)
        health = {row["zone"]: row["healthy"] for row in rows(app, zones)}
        assert {zone for zone, healthy in health.items() if healthy} == TRUSTED
        for fault in FAULTS:  # and what is listed stays so, whatever the resolver says
            proxy.fault = fault
            await app.watching.sweep(anew=True)
            assert open_pairs(app) == truth, fault
            assert not false_ones(app, truth), fault
            blamed = not [x for x in observed(app, "own") if x["kind"] == "resolver"][-1]["ok"]
            assert blamed or fault not in ("timeout", "servfail", "refused"), fault
        assert len(rows(app, listings)) == len(truth)


async def test_a_listing_is_an_event_with_reason_severity_and_end(lab: Lab, tmp_path: Path) -> None:
    pair = (LISTED, "healthy.dnsbl.test")
    async with watched(lab, tmp_path) as (app, _):
        await app.watching.sweep()
        assert not rows(app, listings)
        lab.blocklists.list_("healthy", LISTED, "127.0.0.9")
        await app.watching.sweep(anew=True)
        row = rows(app, listings)[0]
        assert (row["subject"], row["zone"]) == pair
        assert (row["severity"], row["codes"], row["meaning"]) == (
            "info",
            ["127.0.0.9"],
            "a neighbour of one",
        )
        assert row["txt"] == "listed by a test"
        lab.blocklists.list_("healthy", LISTED, "127.0.0.2")
        await app.watching.sweep(anew=True)
        worse = rows(app, listings)[0]
        assert (worse["severity"], worse["since"]) == ("critical", row["since"])
        lab.blocklists.delist("healthy", LISTED)
        await app.watching.sweep(anew=True)
        ended = rows(app, listings)[0]
        assert ended["ended"] == "delisted"
        assert ended["delisted_at"] > ended["last_seen"] > ended["since"]
        told = [(x["listed"], x["severity"]) for x in observed(app, "listing")]
    assert told == [(True, "info"), (True, "critical"), (False, "info")]


async def test_its_severity_reaches_the_alert(lab: Lab, tmp_path: Path) -> None:
    lab.blocklists.list_("healthy", LISTED, "127.0.0.2")
    async with watched(lab, tmp_path, evaluated=True) as (app, _):
        await app.watching.sweep()
        assert await _alert(app, "firing") == "critical"
        lab.blocklists.delist("healthy", LISTED)
        await app.watching.sweep(anew=True)
        assert await _alert(app, "resolved") == "critical"


async def _alert(app: App, wanted: str) -> str:
    """The severity of the listing's alert once its status is as wanted."""
    async with asyncio.timeout(20):
        while not (found := [x for x in rows(app, alerts) if LISTED in x["key"] and x["status"] == wanted]):
            await asyncio.sleep(0.05)
    return str(found[0]["severity"])


async def test_a_list_that_refuses_is_told_in_words(lab: Lab, tmp_path: Path) -> None:
    async with watched(lab, tmp_path) as (app, _):
        await app.watching.sweep()
        faults = status(app).faults
    assert "(127.255.255.0/24)" in faults["blocklist error-public-resolver.dnsbl.test"]
    assert not [name for name in faults if name.removeprefix("blocklist ") in TRUSTED]
