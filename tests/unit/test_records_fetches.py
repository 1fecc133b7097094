"""What a stranger's records name is fetched with care: nothing on the inside is reached in any form."""

from __future__ import annotations

import socket

import pytest

from probes.dns import StaticResolver
from probes.http import Fetcher
from probes.records.bimi import check_bimi
from probes.records.sts import POLICY_LIMITS, check_mta_sts
from tests.unit.test_http import HOSTS, INSIDE, URLS

STS = {("_mta-sts.a.example", "TXT"): ["v=STSv1; id=1"]}


@pytest.fixture(autouse=True)
def _no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to connect anywhere fails the test."""

    def connect(self: socket.socket, address: object) -> None:
        raise AssertionError(f"connected to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)


@pytest.mark.parametrize("address", INSIDE)
async def test_a_policy_host_on_the_inside(address: str) -> None:
    rdtype = "AAAA" if ":" in address else "A"
    resolver = StaticResolver({**STS, ("mta-sts.a.example", rdtype): [address]})
    found = await check_mta_sts("a.example", [], resolver, Fetcher(resolver))
    assert [finding.code for finding in found.findings] == ["mta-sts-fetch"]
    assert "public internet" in found.findings[0].what
    assert found.policy is None


@pytest.mark.parametrize("url", [*(f"https://{host}/x.svg" for host in HOSTS), *URLS])
@pytest.mark.parametrize("tag", ["l", "a"])
async def test_a_logo_or_certificate_on_the_inside(tag: str, url: str) -> None:
    record = f"v=BIMI1; {tag}={url}"
    resolver = StaticResolver({("default._bimi.a.example", "TXT"): [record]})
    found = await check_bimi("a.example", None, resolver, Fetcher(resolver))
    assert found, url
    # A name that does not exist cannot be looked at; everything else is refused before anything is asked.
    assert {finding.code for finding in found} <= {
        "bimi-record",
        "bimi-logo",
        "bimi-certificate",
        "bimi-unknown",
    }
    assert all(finding.code != "bimi-unknown" or "no address" in finding.what for finding in found)


def test_a_policy_is_fetched_as_rfc_8461_says() -> None:
    assert POLICY_LIMITS.redirects == 0
    assert POLICY_LIMITS.content_types == ("text/plain",)
    assert POLICY_LIMITS.seconds <= 60
    assert POLICY_LIMITS.max_bytes <= 64 * 1024
