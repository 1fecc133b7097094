"""The lookup probes by name."""

from __future__ import annotations

from probes.blocklists.catalogue import unlisted_zone
from probes.clock import FakeClock
from probes.dns import StaticResolver
from probes.outcome import Outcome
from probes.registry import PROBES, Means


async def test_blocklist_gives_one_result() -> None:
    resolver = StaticResolver(
        {
            ("2.0.0.127.bl.example", "A"): ["127.0.0.2"],
            ("1.2.0.192.bl.example", "A"): ["127.0.0.2"],
            ("1.2.0.192.bl.example", "TXT"): ["spam"],
        }
    )
    means = Means(resolver, FakeClock(), zones=[unlisted_zone("bl.example")])
    bad = await PROBES["blocklist"]("192.0.2.1", means)
    assert (bad.outcome, bad.reason, bad.target) == (Outcome.FAIL, "listed", "192.0.2.1")
    assert bad.evidence[0].text == "192.0.2.1 in bl.example: listed [127.0.0.2] spam"
    good = await PROBES["blocklist"]("192.0.2.2", means)
    assert (good.outcome, good.reason) == (Outcome.PASS, "not-listed")
    empty = await PROBES["records"]("a.example", means)
    assert (empty.outcome, empty.reason, empty.target) == (Outcome.FAIL, "faults", "a.example")
    none = await PROBES["blocklist"]("192.0.2.2", Means(resolver, FakeClock(), zones=[]))
    assert (none.outcome, none.reason) == (Outcome.UNKNOWN, "unknown")
