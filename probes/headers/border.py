"""Finds the provider's block of a header: from the top down to its border Received, and what it writes right
below.

The search runs from the top, where only the provider can write, and stops at the first hop that does not
fit. What the message brought along lies below the true border, so it is never reached, whatever it claims.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from probes.headers.received import Hop, is_loopback
from probes.headers.scan import Field
from probes.headers.trust import TrustRule, matches

_PRIVATE = [
    ip_network(one)
    for one in "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16"
    " ::1 fc00::/7 fe80::/10".split()
]
_ADDRESS = re.compile(r"[0-9a-f]{1,4}(?:[:.][0-9a-f]{0,4}){2,7}", re.IGNORECASE)


class Block(NamedTuple):
    """The provider's own part. border: index of the field, None where it was not found (nothing is trusted
    then); hop: the same counted in hops; below: indexes of the fields under the border that are the
    provider's too; why: in words, when there is no border."""

    border: int | None
    hop: int | None
    below: frozenset[int]
    why: str

    def holds(self, index: int) -> bool:
        """Whether the provider wrote the field at that index."""
        return self.border is not None and (index <= self.border or index in self.below)


def find_block(fields: Sequence[Field], hops: Sequence[tuple[int, Hop]], rule: TrustRule) -> Block:
    """hops: the Received fields with their index among the fields, from the top down."""
    number, why = _border(hops, rule)
    if number is None:
        return Block(None, None, frozenset(), why)
    index = hops[number][0]
    return Block(index, number, _below(fields, index, rule), "")


def _border(hops: Sequence[tuple[int, Hop]], rule: TrustRule) -> tuple[int | None, str]:
    for number, (_, hop) in enumerate(hops):
        by = hop.by or ""
        if not rule.border:
            if not hop.local_delivery:
                return number, ""
        elif matches(by, rule.border):
            return _last_repeat(hops, number, rule) if rule.border_repeats else number, ""
        elif not _inside(hop, rule):
            return None, f"the hop by {by[:80] or '?'} is not one of {rule.name or 'the provider'}"
    return None, "no Received of the provider in it"


def _inside(hop: Hop, rule: TrustRule) -> bool:
    """Whether a hop above the border is the provider's own hand-over: both ends are its hosts, or it tells no
    origin and its writer is such a host or a bare address (Gmail's "by 2002:...").

    What stands behind `from` is what the client called itself. It counts where no stranger comes from: a
    private address, none told, or one of the provider's networks; else the name that the address has, where
    the writer tells it beside the other: "from HELO (name [address])".
    """
    by = (hop.by or "").strip("[]")
    first = hop.raw.lstrip()[:3].lower()
    if first[:2] == "by" and first[2:].isspace():
        return rule.inside(by) or _ADDRESS.fullmatch(by) is not None
    if not rule.inside(by):
        return False
    if hop.ip is None or _is_private(hop.ip) or rule.network_holds(hop.ip):
        return rule.inside(hop.from_name or "")
    return hop.rdns is not None and f"({hop.rdns} [" in hop.text and rule.inside(hop.rdns)


def _is_private(ip: str) -> bool:
    address = ip_address(ip)
    return any(address in network for network in _PRIVATE)


def _last_repeat(hops: Sequence[tuple[int, Hop]], number: int, rule: TrustRule) -> int:
    while (
        is_loopback(hops[number][1].ip)
        and number + 1 < len(hops)
        and _ours(hops[number][1].from_name or "", rule)
        and matches(hops[number + 1][1].by or "", rule.border)
    ):
        number += 1
    return number


def _ours(host: str, rule: TrustRule) -> bool:
    return matches(host, rule.border) or rule.inside(host)


def _below(fields: Sequence[Field], border: int, rule: TrustRule) -> frozenset[int]:
    found: list[int] = []
    names = list(rule.below_names)
    for index in range(border + 1, min(border + 1 + rule.below_border, len(fields))):
        place = _place(fields[index], names)
        if place is None:
            break
        del names[: place + 1]
        found.append(index)
    return frozenset(found)


def _place(item: Field, names: Sequence[str]) -> int | None:
    """Where a field stands in the order. An entry may also name the authserv-id: "authentication-results
    spf.icloud.com"."""
    for place, wanted in enumerate(names):
        if wanted == item.name:
            return place
        name, _, authserv_id = wanted.partition(" ")
        if authserv_id and name == item.name and _bears(item.text, authserv_id):
            return place
    return None


def _bears(text: str, authserv_id: str) -> bool:
    return text[: len(authserv_id) + 1].lower() == f"{authserv_id};"
