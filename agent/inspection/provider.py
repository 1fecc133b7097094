"""Whose mailbox a stored message lay in, and so which part of its header counts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from probes.headers.authres import parse_authentication_results
from probes.headers.border import find_block
from probes.headers.received import Hop, normal_ip, parse_received
from probes.headers.scan import Header
from probes.headers.trust import TrustRule
from probes.mailbox.presets import presets


@dataclass(frozen=True, slots=True)
class Guess:
    """provider: the preset's name, None where no preset fits; rule: what to trust; ip: connecting IP where
    it was named and is that of no hop's writer."""

    provider: str | None
    rule: TrustRule
    ip: str | None = None


def guess(header: Header, authserv_ids: list[str], received_by: str | None) -> Guess:
    """The trust rule for a header. Named authserv-ids replace the preset's; without a preset and without
    names no verdict is trusted.

    received_by: the IP address (or name) of the server that took the message in; its hop is the border. An
    address that is no hop's writer is taken for that of the connecting client, and moves no border.
    """
    hops = _hops(header)
    ids = tuple(one.lower().rstrip(".") for one in authserv_ids)
    named = _named_border(hops, received_by)
    name = _preset_name(header, hops)
    if named is not None and (ids or name is None):
        rule = TrustRule(ids, (named,), 1, below_names=("authentication-results",))
        return Guess(name, rule)
    ip = normal_ip(received_by) if received_by and named is None else None
    if name is not None:
        rule = presets()[name].trust
        return Guess(name, replace(rule, authserv_ids=ids) if ids else rule, ip)
    own = TrustRule(ids, below_border=1, below_names=("authentication-results",), name="the receiving server")
    return Guess(None, own, ip)


def _hops(header: Header) -> list[tuple[int, Hop]]:
    found = [(i, item) for i, item in enumerate(header.fields) if item.name == "received"]
    return [(i, parse_received(item.raw)) for i, item in found[:50]]


def _preset_name(header: Header, hops: list[tuple[int, Hop]]) -> str | None:
    """The preset whose border Received is on top of this header."""
    for name, preset in presets().items():
        rule = preset.trust
        if rule.border and find_block(header.fields, hops, rule).border is not None:
            return name
        if not rule.border and rule.authserv_ids and _signs_above(header, hops, rule):
            return name
    return None


def _signs_above(header: Header, hops: list[tuple[int, Hop]], rule: TrustRule) -> bool:
    """Whether the newest Received bears the provider's name, or a bare address (Yahoo), below a field with
    one of its authserv-ids: for a provider whose border has no name of its own."""
    if not hops:
        return False
    index, hop = hops[0]
    by = (hop.by or "").strip("[]")
    if not rule.owns(by) and normal_ip(by) is None:
        return False
    above = (item for item in header.fields[:index] if item.name == "authentication-results")
    return any(rule.owns(parse_authentication_results(item.text).authserv_id) for item in above)


def _named_border(hops: list[tuple[int, Hop]], received_by: str | None) -> str | None:
    """The `by` host of the topmost hop that this address or name wrote."""
    if not received_by:
        return None
    wanted = normal_ip(received_by) or received_by.lower().rstrip(".")
    for _, hop in hops:
        by = (hop.by or "").strip("[]").lower().rstrip(".")
        if wanted in (hop.by_ip, by, normal_ip(by)):
            return (hop.by or "").lower().rstrip(".")
    return None
