"""Records: each fault with its finding and its fix, a clean domain with none; the unseen is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from probes.clock import FakeClock
from probes.dns import DnsStatus, StaticResolver
from probes.errors import DataError
from probes.http import Fetcher
from probes.outcome import Outcome
from probes.records.senders import SendingHost
from probes.records.sts_policy import parse_sts_policy
from probes.records.survey import Survey, SurveyMeans, survey

Zone = dict[tuple[str, str], Sequence[str] | DnsStatus]
CLEAN: Zone = {
    ("a.example", "MX"): ["10 mx.a.example."],
    ("mx.a.example", "A"): ["192.0.2.1"],
    ("a.example", "TXT"): ["v=spf1 mx include:_spf.b.example -all"],
    ("_spf.b.example", "TXT"): ["v=spf1 ip4:192.0.2.0/24 -all"],
    ("_dmarc.a.example", "TXT"): ["v=DMARC1; p=reject; rua=mailto:d@a.example"],
    ("s1._domainkey.a.example", "TXT"): [
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    ],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["mx.a.example."],
    ("_smtp._tls.a.example", "TXT"): ["v=TLSRPTv1; rua=mailto:t@a.example"],
}


async def look(
    change: Mapping[tuple[str, str], Sequence[str] | DnsStatus | None],
) -> tuple[Outcome, list[str], str]:
    """Outcome, kinds and all text of the clean domain with some records changed; notes are left out."""
    zone = {key: value for key, value in {**CLEAN, **change}.items() if value is not None}
    resolver = StaticResolver(zone)
    means = SurveyMeans(resolver, Fetcher(resolver), FakeClock())
    found = await survey(Survey("a.example", ["s1"], [SendingHost("192.0.2.1")]), means)
    rows: list[dict[str, str]] = found.data["findings"]  # type: ignore[assignment]
    return found.outcome, [row["code"] for row in rows], " ".join(str(row) for row in rows)


async def test_a_clean_domain_has_no_finding() -> None:
    assert await look({}) == (Outcome.PASS, [], "")


INCLUDES = {(f"i{i}.example", "TXT"): ["v=spf1 ip4:192.0.2.1 -all"] for i in range(11)}
MANY = "v=spf1 " + " ".join(f"include:i{i}.example" for i in range(11)) + " -all"
VOIDS = "v=spf1 a:n1.example a:n2.example a:n3.example -all"


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (
            {("a.example", "MX"): None, ("a.example", "TXT"): ["v=spf1 -all"]},
            "mx-missing",
            "MX 10 mail.a.example.",
        ),
        ({("a.example", "MX"): ["10 mx.a.example.", "0 ."]}, "mx-null-and-others", "null MX"),
        ({("a.example", "MX"): ["10 192.0.2.1."]}, "mx-address", "names an address"),
        ({("a.example", "MX"): ["10 gone.example.", "20 mx.a.example."]}, "mx-unresolved", "no address"),
        ({("mx.a.example", "CNAME"): ["other.example."]}, "mx-alias", "other.example."),
        ({("a.example", "TXT"): ["hello"]}, "spf-missing", "v=spf1 mx -all"),
        ({("a.example", "TXT"): ["v=spf1 mx -all", "v=spf1 a ~all"]}, "spf-several", "v=spf1 a mx -all"),
        ({("a.example", "TXT"): ["v=spf1 ipv4:192.0.2.1 -all"]}, "spf-syntax", "ipv4"),
        ({("a.example", "TXT"): ["v=spf1 mx +all"]}, "spf-all", "v=spf1 mx -all"),
        ({("a.example", "TXT"): ["v=spf1 mx"]}, "spf-open", "-all"),
        ({("a.example", "TXT"): ["v=spf1 mx ?all"]}, "spf-open", "-all"),
        ({("a.example", "TXT"): ["v=spf1 ptr -all"]}, "spf-ptr", "5.5"),
        ({("a.example", "TXT"): [MANY], **INCLUDES}, "spf-lookups", "11 DNS look-ups"),
        ({("a.example", "TXT"): [VOIDS]}, "spf-voids", "3 names"),
        ({("_spf.b.example", "TXT"): None}, "spf-include", 'out: a.example. TXT "v=spf1 mx -all"'),
        (
            {("_spf.b.example", "TXT"): ["v=spf1 include:a.example -all"]},
            "spf-loop",
            '_spf.b.example. TXT "v=spf1 -all"',
        ),
        ({("s1._domainkey.a.example", "TXT"): None}, "dkim-missing", "s1._domainkey.a.example. TXT"),
        ({("s1._domainkey.a.example", "TXT"): ["v=DKIM1; p="]}, "dkim-revoked", "revoked"),
        ({("s1._domainkey.a.example", "TXT"): ["v=DKIM1; p=xx"]}, "dkim-syntax", "s1._domainkey"),
        ({("_dmarc.a.example", "TXT"): None}, "dmarc-missing", "v=DMARC1; p=none"),
        ({("_dmarc.a.example", "TXT"): ["v=DMARC1; p=none"] * 2}, "dmarc-several", "leave one"),
        ({("_dmarc.a.example", "TXT"): ["v=DMARC1; p=rejekt; rua=mailto:d@a.example"]}, "dmarc-syntax", "p"),
        (
            {("_dmarc.a.example", "TXT"): ["v=DMARC1; p=reject; rua=mailto:d@other.example"]},
            "dmarc-external",
            "a.example._report._dmarc.other.example",
        ),
        ({("_mta-sts.a.example", "TXT"): ["v=STSv1; id="]}, "mta-sts-record", "id="),
        ({("_smtp._tls.a.example", "TXT"): ["v=TLSRPTv1; rua=x"]}, "tls-rpt-record", "rua="),
        ({("1.2.0.192.in-addr.arpa", "PTR"): None}, "ptr-missing", "has no name"),
        ({("1.2.0.192.in-addr.arpa", "PTR"): ["x.example."]}, "ptr-unconfirmed", "x.example. A 192.0.2.1"),
    ],
)
async def test_each_fault_has_its_finding_and_fix(change: Zone, kind: str, text: str) -> None:
    outcome, kinds, told = await look(change)
    assert outcome is Outcome.FAIL
    assert kind in kinds
    assert text in told


async def test_notes_say_the_whole_record_too() -> None:
    resolver = StaticResolver({**CLEAN, ("_dmarc.a.example", "TXT"): ["v=DMARC1; p=none; sp=none; aspf=s"]})  # type: ignore[dict-item]
    found = await survey(Survey("a.example"), SurveyMeans(resolver, Fetcher(resolver), FakeClock()))
    fixes = {row["code"]: row["fix"] for row in found.data["notes"]}  # type: ignore[attr-defined]
    better = "v=DMARC1; p=quarantine; sp=quarantine; aspf=s"
    assert fixes["dmarc-none"] == f'_dmarc.a.example. TXT "{better}" once the reports are clean'
    told = "v=DMARC1; p=none; sp=none; aspf=s; rua=mailto:dmarc@a.example"
    assert fixes["dmarc-no-reports"] == f'_dmarc.a.example. TXT "{told}"'


@pytest.mark.parametrize(
    "status", [DnsStatus.SERVFAIL, DnsStatus.TIMEOUT, DnsStatus.REFUSED, DnsStatus.ERROR]
)
@pytest.mark.parametrize("key", list(CLEAN))
async def test_what_was_not_seen_is_no_fault(key: tuple[str, str], status: DnsStatus) -> None:
    outcome, kinds, _ = await look({key: status})
    assert outcome is Outcome.UNKNOWN, kinds
    assert all(kind.endswith("-unknown") for kind in kinds)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "version"),
        ("version: STSv2\nmode: none\nmax_age: 1", "version"),
        ("version: STSv1\nmode: hard\nmax_age: 1", "mode"),
        ("version: STSv1\nmode: enforce\nmax_age: -1\nmx: a.example", "max_age"),
        ("version: STSv1\nmode: enforce\nmax_age: 31557601\nmx: a.example", "max_age"),
        ("version: STSv1\nmode: enforce\nmax_age: 1", "no mx"),
        ("version: STSv1\nrubbish", "not a field"),
    ],
)
def test_a_bad_policy_file_names_its_fault(text: str, error: str) -> None:
    with pytest.raises(DataError, match=error):
        parse_sts_policy(text)


def test_a_policy_wildcard_stands_for_one_label() -> None:
    policy = parse_sts_policy("version: STSv1\r\nmode: enforce\r\nmx: *.a.example\r\nmax_age: 604800\r\n")
    assert policy.covers("MX.a.example.")
    assert not policy.covers("a.example")
    assert not policy.covers("x.mx.a.example")
