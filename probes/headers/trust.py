"""Which part of a header the seed's own provider wrote (DESIGN section 2).

A message brings its own header along, so anything in it may be forged. What the provider writes it writes on
top: from the first line down to its border Received, the hop by which the message came in from outside, and
with it the few fields it puts right below. Only there, and only under its own authserv-id, does a verdict
count.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address, ip_network


@dataclass(frozen=True, slots=True)
class ContaminationMark:
    """A field that says the seed skipped filtering, which voids a result.

    header: field name, lower case; contains: text in its value, lower case ("" for any value); meaning: for
    people.
    """

    header: str
    contains: str
    meaning: str


COMMON_MARKS: tuple[ContaminationMark, ...] = (
    ContaminationMark("x-spam-known-sender", "yes", "the sender is in the seed's address book"),
    ContaminationMark("x-forefront-antispam-report", "sfv:skn", "filtering was skipped (SFV:SKN)"),
    ContaminationMark(
        "x-forefront-antispam-report", "sfv:ska", "sender is on the tenant's allow list (SFV:SKA)"
    ),
    ContaminationMark(
        "x-forefront-antispam-report", "sfv:sfe", "sender is on the user's safe list (SFV:SFE)"
    ),
    ContaminationMark(
        "x-forefront-antispam-report", "ipv:cal", "the IP is on the tenant's allow list (IPV:CAL)"
    ),
    ContaminationMark("x-ms-exchange-organization-skiplistedinternetsender", "", "sender skips the filter"),
    ContaminationMark("x-whitelisted", "", "an allow list let it through"),
    ContaminationMark("x-barracuda-bwl", "", "a Barracuda allow list let it through"),
    ContaminationMark("x-spam-whitelisted", "", "an allow list let it through"),
)


@dataclass(frozen=True, slots=True)
class TrustRule:
    """How a provider marks its own block of the header.

    authserv_ids: lower case; "" where it writes none (Microsoft); "*.yahoo.com" is that name and all below.
    border: the `by` host of its border Received, in the same form ("mx.google.com",
    "*.mail.protection.outlook.com");
        empty: the topmost Received is the border, LMTP hops above it aside.
    internal: hosts of hops allowed above the border, in the same form, and the provider's own networks
        ("2001:db8::/32"); without a name: all that share a domain with `border`. Both ends of such a hop must
        fit (border.py). Any other Received ends the search, and nothing is trusted: a border that the message
        brought along is out of reach.
    border_repeats: its own filter hands the message round on loopback (Fastmail's does), so that several hops
        fit `border`: the lowest in an unbroken run from loopback is the one.
    below_border: at most how many fields right below the border Received are the provider's too.
    below_names: the order in which those come, each at most once, with its authserv-id where it is always the
        same ("authentication-results spf.icloud.com"); the first other field ends the block.
    only_below: its Authentication-Results stand below the border and nowhere else.
    contamination: marks beside COMMON_MARKS.
    verdicts_anywhere: Microsoft's verdict fields count wherever they stand: it writes them at the bottom,
    and takes
        incoming ones of those names away.
    name: the provider, for people.
    """

    authserv_ids: tuple[str, ...] = ()
    border: tuple[str, ...] = ()
    below_border: int = 0
    contamination: tuple[ContaminationMark, ...] = ()
    internal: tuple[str, ...] = ()
    border_repeats: bool = False
    below_names: tuple[str, ...] = ("received-spf", "authentication-results")
    only_below: bool = False
    verdicts_anywhere: bool = False
    name: str = ""

    def owns(self, authserv_id: str) -> bool:
        """Whether this authserv-id is one of the provider's own (RFC 8601 section 2.5: compared without
        case)."""
        return matches(authserv_id, self.authserv_ids)

    def inside(self, host: str) -> bool:
        """Whether a host may stand in a hop above the border."""
        return _inside(host, self.internal, self.border)

    def network_holds(self, ip: str) -> bool:
        """Whether an address lies in one of the provider's own networks."""
        return any(ip_address(ip) in ip_network(one, strict=False) for one in self.internal if "/" in one)


@lru_cache(512)
def _inside(host: str, internal: tuple[str, ...], border: tuple[str, ...]) -> bool:
    names = tuple(one for one in internal if "/" not in one)
    return matches(host, names) if names else _same_domain(host, border)


def _same_domain(host: str, patterns: tuple[str, ...]) -> bool:
    return any(matches(host, ("*." + ".".join(pattern.split(".")[-2:]),)) for pattern in patterns)


@lru_cache(1024)
def matches(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether the host is one of the names, or below one written as "*.name", or a name without dots of the
    shape "p*-gateway-*". Without case; a final dot is none."""
    host = host.lower()
    if host.endswith(".") and len(host) > 1:
        host = host[:-1]
    for pattern in patterns:
        if pattern in (host, "*") or (
            pattern[:2] == "*." and (host.endswith(pattern[1:]) or host == pattern[2:])
        ):
            return True
        if "*" in pattern[2:] and "." not in host and fnmatchcase(host, pattern):
            return True
    return False


NOBODY = TrustRule(name="nobody")
"""Trusts no authserv-id: every verdict in the header is hearsay."""
