"""The parts of a sweep: every zone is in one of them, and one agent alone has one part."""

from __future__ import annotations

import pytest

from agent.config.load import parse
from agent.config.models import Config
from agent.fleet.resources import MOST_CHUNKS, chunks, resources_of
from agent.runner.sweep_plan import A_CHUNK, Plans, make_plan
from probes.clock import FakeClock
from probes.dns import DnsStatus, StaticResolver

NOBODY = StaticResolver({}, default=DnsStatus.TIMEOUT)


def config(zones: int, store: str = "postgresql://a@b/c", more: str = "") -> Config:
    names = ", ".join(f"z{n}.example" for n in range(zones))
    text = f"agent: {{store: '{store}'}}\nblocklists: {{zones: [{names}]{more}}}\n"
    return parse(text.encode(), "mail.yaml", {})


@pytest.mark.parametrize("zones", [1, A_CHUNK - 1, 2 * A_CHUNK, 29, 200])
async def test_each_zone_is_in_one_part(zones: int) -> None:
    whole = await make_plan(config(zones), NOBODY)
    parts = [whole.part(chunk) for chunk in chunks(whole.config)]
    assert len(parts) == MOST_CHUNKS
    asked = [zone.name for part in parts for zone in part.zones]
    assert sorted(asked) == sorted(zone.name for zone in whole.zones)
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    for part in parts:
        mine = {zone.name for zone in part.zones}
        assert part.others == set(asked) - mine
        assert not mine or len(mine) >= min(zones, A_CHUNK)


def test_one_agent_alone_has_one_part() -> None:
    one = config(29, "sqlite:///x.db")
    assert list(chunks(one)) == ["0"]
    assert [name for name in resources_of(one) if name.startswith("blocklists")] == ["blocklists/0"]


async def test_parts_that_begin_together_have_one_plan() -> None:
    clock, one = FakeClock(), config(1)
    plans = Plans(clock)
    first = await plans.get(one, NOBODY)
    assert await plans.get(one, NOBODY) is first
    await clock.advance(61.0)
    later = await plans.get(one, NOBODY)
    assert later is not first
    assert later.subjects is first.subjects
    assert await plans.get(config(1), NOBODY) is not later


async def test_a_plan_with_a_fault_is_made_again() -> None:
    plans, faulty = Plans(FakeClock()), config(1, more=", subjects: {hosts: [gone.example]}")
    first = await plans.get(faulty, NOBODY)
    assert list(first.faults) == ["host:gone.example"]
    assert await plans.get(faulty, NOBODY) is not first
