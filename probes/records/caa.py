"""CAA, noted: which authorities may issue certificates for a name (RFC 8659). Never a fault by itself."""

from __future__ import annotations

from probes.authentication.domains import parents
from probes.dns import Resolver


async def find_caa(domain: str, resolver: Resolver) -> tuple[str, ...]:
    """The CAA records that hold for a domain: its own, else those of the nearest name above; () for none."""
    for name in (domain, *parents(domain)):
        answer = await resolver.query(name, "CAA")
        if answer.records:
            return answer.records
    return ()
