"""No header that a message brings along is ever taken for the provider's word."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace

import pytest

from probes.headers.report import HeaderReport, read_headers
from probes.headers.trust import TrustRule
from probes.mailbox.presets import preset, presets

CLAIM = (
    "dmarc=pass header.from=bank.example; dkim=pass header.d=bank.example;"
    " spf=pass smtp.mailfrom=bank.example"
)
TIME = "Sat, 21 Nov 2026 08:15:30 +0000"


@dataclass(frozen=True)
class World:
    """A provider: what it writes on top, and what right below its border Received."""

    name: str
    rule: TrustRule
    authserv_id: str
    by: str
    top: tuple[str, ...]
    below: tuple[str, ...] = ()

    def message(self, injected: list[str]) -> bytes:
        """What the provider writes, then the message with the injected fields on its top."""
        own = ["From: <a@bank.example>", "Subject: good day"]
        return "\r\n".join([*self.top, *self.below, *injected, *own, "", "body"]).encode("utf-8")


BAD = "mail.bad.example (mail.bad.example [192.0.2.66])"


def hop(by: str, frm: str = BAD, how: str = "ESMTPS") -> str:
    return f"Received: from {frm}\r\n\tby {by} with {how} id abc123;\r\n\t{TIME}"


def verdict(authserv_id: str) -> str:
    return (
        f"Authentication-Results: {authserv_id}{';' if authserv_id else ''}"
        " spf=fail smtp.mailfrom=bad.example;"
        " dkim=none; dmarc=fail (p=REJECT) header.from=bank.example"
    )


OWN = TrustRule(("mx.own.example",), below_border=1, below_names=("authentication-results",))
WORLDS = (
    World(
        "gmail",
        preset("gmail").trust,
        "mx.google.com",
        "mx.google.com",
        (f"Received: by 2002:a05:6a10:1 with SMTP id x1; {TIME}", hop("mx.google.com")),
        ("Received-SPF: fail (google.com: no) client-ip=192.0.2.66;", verdict("mx.google.com")),
    ),
    World(
        "outlook",
        preset("outlook").trust,
        "",
        "AM1.mail.protection.outlook.com",
        (
            hop("AM2.eurprd01.prod.outlook.com", "AM3.eurprd01.prod.outlook.com (2603:10a6::1)", "HTTPS"),
            verdict("")[:24] + verdict("")[25:],
            hop("AM1.mail.protection.outlook.com (10.0.0.1)"),
        ),
    ),
    World(
        "yahoo",
        preset("yahoo").trust,
        "atlas1.mail.yahoo.com",
        "atlas1.mail.yahoo.com",
        (verdict("atlas1.mail.yahoo.com"), hop("atlas1.mail.yahoo.com")),
    ),
    World(
        "fastmail",
        preset("fastmail").trust,
        "mx1.messagingengine.com",
        "mx1.messagingengine.com",
        (
            hop("slotai03m05", "ams-compute-02.internal (ams-compute-02.internal [10.0.0.2])", "LMTPA"),
            "X-Spam-known-sender: no",
            hop("ams-compute-02.internal", "phl-mx-04 ([10.0.0.3])", "LMTP"),
            hop("mailmx.phl.internal", "mx1.messagingengine.com (localhost [127.0.0.1])", "ESMTP"),
            hop("mx1.messagingengine.com", "mailmx.phl.internal (localhost [127.0.0.1])", "ESMTP"),
            verdict("mx1.messagingengine.com"),
            hop("mx1.messagingengine.com (Postfix)"),
        ),
    ),
    World(
        "aol",
        preset("aol").trust,
        "atlas2.aol.mail.ne1.yahoo.com",
        "10.1.2.3",
        (verdict("atlas2.aol.mail.ne1.yahoo.com"), hop("10.1.2.3")),
    ),
    World(
        "icloud",
        preset("icloud").trust,
        "dmarc.icloud.com",
        "st1p00im-ztbu1.me.com",
        (
            hop("p44-mailgateway-smtp-7784-glqrh", "st1p00im-ztbu1.me.com", "SMTP"),
            "X-Apple-MoveToFolder: INBOX",
            hop("st1p00im-ztbu1.me.com"),
        ),
        (
            "X-ICL-SCORE: 3.3",
            "Authentication-Results: bimi.icloud.com; bimi=none",
            "Authentication-Results: dmarc.icloud.com; dmarc=fail header.from=bank.example",
            "X-DMARC-Policy: v=DMARC1; p=reject",
            "Authentication-Results: dkim-verifier.icloud.com; dkim=none",
            "Authentication-Results: spf.icloud.com; spf=fail smtp.mailfrom=bad.example",
        ),
    ),
    World(
        "gmx",
        preset("gmx").trust,
        "gmx.net",
        "mx-ha.gmx.net (mxgmx105 [212.227.17.5])",
        (verdict("gmx.net"), hop("mx-ha.gmx.net (mxgmx105 [212.227.17.5])")),
    ),
    World(
        "webde",
        preset("webde").trust,
        "web.de",
        "mx-ha.web.de (mxweb012 [212.227.15.17])",
        (verdict("web.de"), hop("mx-ha.web.de (mxweb012 [212.227.15.17])")),
    ),
    World(
        "zoho",
        preset("zoho").trust,
        "mx.zohomail.com",
        "mx.zohomail.com",
        (
            "Received-SPF: fail (zohomail.com: no) client-ip=192.0.2.66;",
            verdict("mx.zohomail.com"),
            hop("mx.zohomail.com", how="SMTPS"),
        ),
    ),
    World(
        "proton",
        preset("proton").trust,
        "mailin037.protonmail.ch",
        "mailin037.protonmail.ch",
        (hop("mailin037.protonmail.ch (Postfix)"),),
        (
            "Authentication-Results: mail.protonmail.ch; dmarc=fail (p=reject) header.from=bank.example",
            "Authentication-Results: mail.protonmail.ch; spf=fail smtp.mailfrom=bad.example",
        ),
    ),
    World(
        "microsoft365",
        preset("microsoft365").trust,
        "",
        "AM1.mail.protection.outlook.com",
        (verdict("")[:24] + verdict("")[25:], hop("AM1.mail.protection.outlook.com (10.0.0.1)")),
    ),
    World(
        "own server, results below",
        OWN,
        "mx.own.example",
        "mx.own.example",
        (hop("imap.own.example", "mx.own.example", "LMTP"), hop("mx.own.example (Postfix)")),
        (verdict("mx.own.example"),),
    ),
    World(
        "own server, results above",
        OWN,
        "mx.own.example",
        "mx.own.example",
        (
            hop("imap.own.example", "mx.own.example", "LMTP"),
            verdict("mx.own.example"),
            hop("mx.own.example (Postfix)"),
        ),
    ),
    World(
        "own server, nothing written",
        replace(OWN, below_border=0),
        "mx.own.example",
        "mx.own.example",
        (hop("mx.own.example (Postfix)"),),
    ),
)


def forgeries(world: World) -> dict[str, list[str]]:
    """Fields that a message may bring along."""
    own = world.authserv_id
    start = f"Authentication-Results: {own}; " if own else "Authentication-Results: "
    encoded = base64.b64encode(f"{own}; {CLAIM}".encode()).decode()
    back = hop(world.by, "nice.bank.example (nice.bank.example [192.0.2.1])")
    return {
        "plain": [start + CLAIM],
        "twice": [start + CLAIM, start + CLAIM],
        "many": [start + CLAIM] * 50,
        "folded": [(start + CLAIM).replace(" ", "\r\n ")],
        "folded by tabs": [(start + CLAIM).replace("; ", ";\r\n\t")],
        "upper case": ["AUTHENTICATION-RESULTS: " + (start + CLAIM).partition(": ")[2].upper()],
        "lower case": [(start + CLAIM).lower()],
        "blank before the colon": [(start + CLAIM).replace(":", " :", 1)],
        "comment first": [start.replace(": ", ": (really) ", 1) + CLAIM],
        "comment nested": [start.replace(": ", ": ((a)(b(c))) ", 1) + CLAIM],
        "comment in the result": [start + CLAIM.replace("=pass", " (x) = (y) pass")],
        "quoted id": [f'Authentication-Results: "{own}"; {CLAIM}'],
        "version": [f"Authentication-Results: {own} 1; {CLAIM}"],
        "dot behind the id": [f"Authentication-Results: {own}.; {CLAIM}"],
        "look-alike below": [f"Authentication-Results: {own}.bad.example; {CLAIM}"],
        "look-alike above": [f"Authentication-Results: x.{own}; {CLAIM}"],
        "look-alike glued": [f"Authentication-Results: bad{own}; {CLAIM}"],
        "homoglyph": [f"Authentication-Results: {own.replace('o', 'о')}; {CLAIM}"],
        "encoded word": [f"Authentication-Results: =?utf-8?B?{encoded}?="],
        "encoded id": [f"Authentication-Results: =?utf-8?Q?{own.replace('.', '=2E')}?=; {CLAIM}"],
        "no id": [f"Authentication-Results: {CLAIM}"],
        "NUL": [start + "\x00" + CLAIM],
        "bare CR before": ["X: y\r" + start + CLAIM],
        "bare LF before": ["X: y\n" + start + CLAIM],
        "empty line of blanks before": ["X: y\r\n \t\r\n " + CLAIM, start + CLAIM],
        "behind SPF": [f"Received-SPF: pass client-ip=192.0.2.1; receiver={own}", start + CLAIM],
        "SPF alone": [f"Received-SPF: pass client-ip=192.0.2.1; receiver={own}"],
        "ARC copy": [f"ARC-Authentication-Results: i=1; {own}; {CLAIM}"],
        "ARC copy, high": [f"ARC-Authentication-Results: i=99; {own}; {CLAIM}", start + CLAIM],
        "own border above": [start + CLAIM, back],
        "own border below": [back, start + CLAIM],
        "own border with SPF": [back, "Received-SPF: pass", start + CLAIM],
        "three own borders": [back, start + CLAIM, back, start + CLAIM, back, start + CLAIM],
        "border from loopback": [start + CLAIM, hop(world.by, f"{world.by} (localhost [127.0.0.1])"), back],
        "border without from": [start + CLAIM, f"Received: by {world.by} with SMTP id 1; {TIME}"],
        "LMTP border": [start + CLAIM, hop(world.by, world.by, "LMTP")],
        "X-Received": [f"X-Received: by {world.by}; {TIME}", start + CLAIM],
        "mbox line": [">From x", start + CLAIM],
        "line without a colon": ["not a field", start + CLAIM],
        "field name cut": ["Authentication-\r\n Results: x", start + CLAIM],
        "after a huge field": ["X-Pad: " + "a" * 70_000, start + CLAIM],
        "reason": [start + CLAIM.replace("=pass", '=pass reason="provider"')],
    }


CASES = [(world, name) for world in WORLDS for name in forgeries(WORLDS[0])]


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize(("world", "name"), CASES, ids=[f"{w.name}: {n}" for w, n in CASES])
def test_no_forged_pass(world: World, name: str) -> None:
    report = read_headers(world.message(forgeries(world)[name]), world.rule)
    assert_honest(report)


def assert_honest(report: HeaderReport) -> None:
    for method, found in report.authentication.items():
        assert found.settled != "pass", (method, found)
    for item in report.results:
        assert not item.trusted or all(one.result != "pass" for one in item.results.methods), item


@pytest.mark.parametrize(
    "world", [world for world in WORLDS if "nothing" not in world.name], ids=lambda w: w.name
)
def test_the_provider_itself_is_believed(world: World) -> None:
    report = read_headers(world.message([]), world.rule)
    assert report.authentication["dmarc"].settled == "fail", report.block
    assert report.border is not None
    assert report.border.ip == "192.0.2.66"


def test_every_preset_of_a_provider_is_attacked() -> None:
    theirs = {name for name, one in presets().items() if one.trust.authserv_ids}
    assert theirs <= {world.name for world in WORLDS}


@pytest.mark.parametrize("name", ["gmail", "icloud"])
def test_one_that_writes_below_the_border_is_not_believed_above_it(name: str) -> None:
    world = next(one for one in WORLDS if one.name == name)
    forged = f"Authentication-Results: {world.authserv_id}; {CLAIM}"
    report = read_headers((forged + "\r\n").encode() + world.message([]), world.rule)
    assert_honest(report)
    assert report.authentication["dmarc"].settled == "fail"


SPOOFED = {
    "outlook": ("BN8PR03CA0025.outlook.office365.com (10.0.0.9)", "AM1.mail.protection.outlook.com"),
    "fastmail": ("mailmx.phl.internal (Postfix)", "mx1.messagingengine.com"),
    "icloud": ("p44-mailgateway-smtp-7784-glqrh", "st1p00im-ztbu1.me.com"),
    "gmail": ("smtp-in.google.com", "mx.google.com"),
    "gmx": ("mx-ha.web.de (mxweb012)", "mx-ha.gmx.net"),
    "own": ("mx2.own.example (Postfix)", "mx.own.example"),
}


@pytest.mark.parametrize("name", SPOOFED)
@pytest.mark.parametrize("peer", ["{} ([192.0.2.66])", "{} (bad.example [192.0.2.66])", "{} (192.0.2.66)"])
def test_a_client_that_calls_itself_a_host_of_the_provider_is_none(name: str, peer: str) -> None:
    """Its message came in by a hop that is the provider's, and brings a border along."""
    by, border = SPOOFED[name]
    rule = replace(OWN, border=(border,)) if name == "own" else preset(name).trust
    own_id = next((one.lstrip("*.") for one in rule.authserv_ids), "")
    forged = f"Authentication-Results: {own_id}{';' if own_id else ''} {CLAIM}"
    lines = [hop(by, peer.format(border)), forged, hop(border), forged, "", ""]
    report = read_headers("\r\n".join(lines).encode(), rule)
    assert report.block.border is None
    assert_honest(report)


def test_a_hop_without_origin_by_a_stranger_is_no_hop_of_gmails() -> None:
    lines = [f"Received: by mx.own.example (Postfix, from userid 33) id 1; {TIME}", hop("mx.google.com")]
    raw = "\r\n".join([*lines, f"Authentication-Results: mx.google.com; {CLAIM}", "", ""]).encode()
    report = read_headers(raw, preset("gmail").trust)
    assert report.block.border is None
    assert not report.authentication


def test_two_of_its_own_that_contradict_each_other_are_ambiguous() -> None:
    good = verdict("mx.own.example").replace("dmarc=fail", "dmarc=pass")
    raw = "\r\n".join([verdict("mx.own.example"), good, hop("mx.own.example"), "", ""]).encode()
    report = read_headers(raw, OWN)
    assert report.authentication["dmarc"].ambiguous
    assert report.authentication["dmarc"].settled is None
    assert not report.authentication["spf"].ambiguous
    assert all("dmarc" in item.ambiguous for item in report.results)


def test_one_that_contradicts_itself_is_ambiguous() -> None:
    raw = "\r\n".join([verdict("mx.own.example") + "; dmarc=pass", hop("mx.own.example"), "", ""]).encode()
    assert read_headers(raw, OWN).authentication["dmarc"].settled is None


def test_a_dmarc_pass_that_rests_on_nothing_is_ambiguous() -> None:
    """OpenDMARC believes a forged DKIM pass under an authserv-id that it trusts and nobody strips."""
    own = "Authentication-Results: mx.own.example; dmarc=pass header.from=bank.example; spf=fail"
    for more, settled in (("", None), ("; dkim=none", None), ("; dkim=pass header.d=bank.example", "pass")):
        raw = "\r\n".join([own + more, hop("mx.own.example"), "", ""]).encode()
        assert read_headers(raw, OWN).authentication["dmarc"].settled == settled
    alone = "Authentication-Results: mx.own.example; dmarc=pass header.from=bank.example"
    raw = "\r\n".join([alone, hop("mx.own.example"), "", ""]).encode()
    assert read_headers(raw, OWN).authentication["dmarc"].settled == "pass"


def test_received_spf_below_the_border_of_one_that_writes_above_it_was_brought_along() -> None:
    rule = replace(OWN, below_names=("received-spf", "authentication-results"))
    own = "Authentication-Results: mx.own.example; dkim=none"
    forged = "Received-SPF: pass client-ip=192.0.2.1; receiver=mx.own.example"
    raw = "\r\n".join([own, hop("mx.own.example"), forged, "", ""]).encode()
    report = read_headers(raw, rule)
    assert "spf" not in report.authentication
    assert not report.results[1].trusted


def test_a_quoted_local_part_cannot_end_the_providers_comment() -> None:
    own = (
        'Authentication-Results: mx.own.example; spf=fail (domain of "a) ;'
        " dmarc=pass header.from=bank.example ("
        '"@bad.example does not designate 192.0.2.66) smtp.mailfrom=bad.example'
    )
    report = read_headers("\r\n".join([own, hop("mx.own.example"), "", ""]).encode(), OWN)
    assert all(found.settled != "pass" for found in report.authentication.values())


def test_a_border_out_of_reach_trusts_nothing() -> None:
    """The provider's true border is not known to the rule: the one the message brought must not be found."""
    rule = preset("gmail").trust
    raw = "\r\n".join(
        [
            hop("relay.elsewhere.example"),
            "Authentication-Results: mx.google.com; dmarc=pass",
            hop("mx.google.com"),
            "",
            "",
        ]
    ).encode()
    report = read_headers(raw, rule)
    assert report.block.border is None
    assert not report.authentication
    assert "relay.elsewhere.example" in report.block.why


def test_no_received_at_all_trusts_nothing() -> None:
    report = read_headers(b"Authentication-Results: mx.own.example; dmarc=pass\r\n\r\n", OWN)
    assert not report.authentication
    assert report.results[0].why


def test_exchange_names_the_recipients_domain() -> None:
    """Exchange stamps such a field before it asks anyone: it is not Microsoft's own, which has no
    authserv-id."""
    world = next(one for one in WORLDS if one.name == "outlook")
    stamped = (
        "authentication-results: seed.example; dkim=none; dmarc=pass action=none header.from=bank.example;"
    )
    raw = "\r\n".join([stamped, *world.top, "", ""]).encode()
    report = read_headers(raw, world.rule)
    assert report.authentication["dmarc"].settled == "fail"
