"""SPF against pyspf on records made at random: two readings of RFC 7208 that nobody wrote together."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.authentication.spf import check_spf
from probes.dns import StaticResolver
from tests.examples import examples

spf = pytest.importorskip("spf")

IP = "192.0.2.10"
HOSTS = {
    ("h1.example", "A"): ["192.0.2.10"],
    ("h2.example", "A"): ["198.51.100.1", "192.0.2.77"],
    ("h3.example", "AAAA"): ["2001:db8::1"],
    ("m1.example", "MX"): ["10 h1.example.", "20 h2.example."],
    ("m2.example", "MX"): ["10 h2.example."],
    ("10.2.0.192.in-addr.arpa", "PTR"): ["h1.example."],
}
QUALIFIERS = st.sampled_from(["", "+", "-", "~", "?"])
TERMS = st.sampled_from(
    (
        "all a mx ptr a:h1.example a:h2.example a:h2.example/24 a:h1.example//64 mx:m1.example mx:m2.example "
        "mx:m2.example/24 ip4:192.0.2.10 ip4:192.0.2.0/28 ip4:203.0.113.0/24 ip6:2001:db8::/32 "
        "exists:h1.example exists:%{l}.example exists:%{ir}.x.example ptr:example ptr:h1.example "
        "include:i1.example include:i2.example include:i3.example include:none.example a:%{d} a:none.example "
        "ip4:192.0.2.10/33 a:h1.example/33 banana exists: a:%{z} ip4:1.2.3"
    ).split()
)
MODIFIERS = st.sampled_from(["redirect=i1.example", "redirect=i3.example", "x=y", "redirect=none.example"])
RECORD = st.builds(
    lambda terms, modifiers: " ".join(["v=spf1", *(q + t for q, t in terms), *modifiers]),
    st.lists(st.tuples(QUALIFIERS, TERMS), max_size=6),
    st.lists(MODIFIERS, max_size=1),
)


def _answers(zone: dict[tuple[str, str], list[str]], name: str, kind: str) -> Iterator[tuple[object, object]]:
    """What pyspf's own DNS function yields."""
    for text in zone.get((name.lower().rstrip("."), kind), []):
        if kind == "MX":
            weight, host = text.split()
            yield (name, kind), (int(weight), host.rstrip("."))
        elif kind == "TXT":
            yield (name, kind), (text.encode(),)
        elif kind in ("A", "AAAA"):
            yield (name, kind), text
        else:
            yield (name, kind), text.rstrip(".")


@settings(max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(RECORD, RECORD, RECORD)
async def test_the_same_result_as_pyspf(top: str, first: str, second: str) -> None:
    zone = {
        **HOSTS,
        ("top.example", "TXT"): [top],
        # pyspf refuses a record that names itself, where the standard only counts
        ("i1.example", "TXT"): [first.replace("i1.example", "i3.example")],
        ("i2.example", "TXT"): [second.replace("i2.example", "i3.example")],
        ("i3.example", "TXT"): ["v=spf1 ip4:192.0.2.10 -all"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spf, "DNSLookup", lambda name, kind, *rest: _answers(zone, name, kind))
        query = spf.query(i=IP, s="h1@top.example", h="h1.example", timeout=0, querytime=0)
        theirs, _, why = query.check()
    ours = await check_spf(IP, "h1@top.example", "h1.example", StaticResolver(zone))
    # pyspf counts every empty answer and a redirect it does not follow; the standard counts the terms that
    # ask, and those that find nothing (section 4.6.4).
    if "Void lookup limit" in why or "Too many DNS lookups" in why:
        return
    assert ours.result == theirs, (ours.detail, zone)
