"""Who does what: every agent comes to the same answer, and little moves when one comes or goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.fleet.assignment import LEAST, SHARE, Candidate, Resource, able, moves, owner

REGIONS = st.sampled_from(["", "eu", "us"])
HOLDERS = st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), min_size=1, max_size=6, unique=True)
IP = "192.0.2.1"


@st.composite
def agents(draw: st.DrawFn) -> list[Candidate]:
    having = st.sampled_from([frozenset[str](), frozenset([IP])])
    return [Candidate(holder, draw(REGIONS), draw(having)) for holder in draw(HOLDERS)]


def work(count: int = 200, region: str = "", address: str = "") -> dict[str, Resource]:
    return {f"mailbox/s{n}": Resource(f"mailbox/s{n}", region, address) for n in range(count)}


def owners(wanted: dict[str, Resource], candidates: Sequence[Candidate]) -> dict[str, str | None]:
    return {name: owner(resource, candidates) for name, resource in wanted.items()}


@given(agents(), REGIONS, st.sampled_from(["", IP]))
def test_whoever_asks_the_owner_is_the_same_and_allowed(
    candidates: list[Candidate], region: str, address: str
) -> None:
    resource = Resource("mailbox/x", region, address)
    found = owner(resource, candidates)
    assert found == owner(resource, list(reversed(candidates)))
    there = [one for one in candidates if region in ("", one.region)]
    assert (found is None) == (not there), "a region is never waived"
    if found is not None:
        assert found in able(resource, candidates)
        having = {one.holder for one in there if address in one.addresses}
        assert not (address and having) or found in having, "an address counts as long as somebody has it"


@given(HOLDERS, st.integers(0, 5))
def test_a_leaver_moves_only_what_it_had_and_a_joiner_takes_only_for_itself(
    holders: list[str], leaver: int
) -> None:
    candidates = [Candidate(holder) for holder in holders]
    gone = candidates[leaver % len(candidates)]
    before = owners(work(), candidates)
    after = owners(work(), [one for one in candidates if one is not gone])
    assert all(after[name] == who for name, who in before.items() if who != gone.holder)


def test_it_is_spread_about_evenly() -> None:
    counts = Counter(owners(work(4000), [Candidate(f"host-{n}") for n in range(4)]).values())
    assert all(800 < count < 1200 for count in counts.values()), counts


@settings(deadline=None, max_examples=20)
@given(HOLDERS)
def test_moves_end_with_every_resource_at_its_owner_and_never_at_two(holders: list[str]) -> None:
    candidates, wanted = [Candidate(holder) for holder in holders], work(60)
    held: dict[str, str] = dict.fromkeys(wanted, holders[0])
    for _ in range(20):
        for holder in holders:
            found = moves(holder, wanted, candidates, held)
            assert len(found.give) <= max(LEAST, int(60 * SHARE)), "no storm"
            assert all(held[name] == holder for name in found.give)
            assert all(not held.get(name) for name in found.take), "only what is free is taken"
            held |= dict.fromkeys(found.give, "") | dict.fromkeys(found.take, holder)
    assert held == owners(wanted, candidates)


def test_what_left_the_config_and_what_i_may_not_have_goes_at_once() -> None:
    me = Candidate("me", "eu")
    held = dict.fromkeys(work(50), "me") | dict.fromkeys([f"old/{n}" for n in range(50)], "me")
    found = moves("me", work(50, region="us"), [me], held)
    assert set(found.give) == set(held)
    assert len(found.orphans) == 50
    assert moves("me", work(50), [], held | {"mailbox/s0": ""}).take == []
