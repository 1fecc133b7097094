"""Filters' verdicts in one shape, and marks that void a result."""

from __future__ import annotations

from probes.headers.report import HeaderReport, read_headers
from probes.headers.trust import TrustRule
from probes.headers.verdicts import ProviderVerdict
from probes.mailbox.presets import preset

BORDER = (
    "Received: from a (a [192.0.2.1]) by mx.own.example with ESMTPS id 1; Sat, 21 Nov 2026 08:15:30 +0000"
)
OWN = TrustRule(("mx.own.example",))
OUTLOOK = (
    "Received: from a (192.0.2.1) by X.mail.protection.outlook.com (10.0.0.1) with Microsoft SMTP Server id 1"
)


def verdict(*fields: str) -> ProviderVerdict:
    found = read_headers("\r\n".join([*fields, BORDER, "", ""]).encode(), OWN).verdict
    assert found is not None
    return found


def microsoft(*fields: str) -> HeaderReport:
    raw = "\r\n".join([OUTLOOK, "From: x", *fields, "", ""]).encode()
    return read_headers(raw, preset("outlook").trust)


def test_microsoft_a_score_is_no_placement() -> None:
    report = microsoft(
        "X-Forefront-Antispam-Report: CIP:192.0.2.1;CTRY:US;SCL:9;SRV:;IPV:NLI;SFV:SPM;CAT:PHSH;DIR:INB;",
        "X-Microsoft-Antispam: BCL:4;",
        "X-Microsoft-Antispam-Mailbox-Delivery: ucf:0;jmr:0;auth:0;dest:I;ENG:(5062000285);",
    )
    found = report.verdict
    assert found is not None
    assert (found.placement, found.spam, found.scores) == ("inbox", True, {"scl": 9.0, "bcl": 4.0})
    assert any("phishing" in one for one in found.evidence)
    assert found.trusted


def test_microsoft_outbound_report_is_the_senders() -> None:
    found = microsoft("X-Forefront-Antispam-Report: SCL:9;SFV:SPM;DIR:OUT;").verdict
    assert found is not None
    assert (found.spam, found.scores) == (None, {})


def test_microsoft_untrusted_report_is_not_read() -> None:
    assert microsoft("X-Forefront-Antispam-Report-Untrusted: SCL:9;DIR:INB;").verdict is None


def test_skipped_filters_void_the_result() -> None:
    for mark in ("SFV:SKN", "SFV:SKA", "SFV:SFE"):
        assert microsoft(f"X-Forefront-Antispam-Report: SCL:-1;{mark};DIR:INB;").contamination
    assert not microsoft("X-Forefront-Antispam-Report: SCL:1;SFV:NSPM;DIR:INB;").contamination
    raw = f"X-Spam-Known-Sender: yes (Address 1)\r\n{BORDER}\r\n\r\n".encode()
    assert read_headers(raw, OWN).contamination
    raw = f"{BORDER}\r\nX-Spam-Known-Sender: yes\r\n\r\n".encode()
    assert not read_headers(raw, OWN).contamination


def test_the_providers_own_words_on_placement() -> None:
    assert verdict("X-Apple-MoveToFolder: Junk").placement == "spam"
    assert verdict("X-Apple-Action: INBOX/INBOX").placement == "inbox"
    assert verdict("X-Pm-Spamscore: 3", "X-Pm-Spam-Action: phishing").placement == "spam"
    assert verdict("X-Pm-Spam-Action: inbox").placement == "inbox"
    assert verdict("X-UI-Filterresults: junk:10;V03:K0:x").placement == "spam"
    assert verdict("X-UI-Filterresults: notjunk:1;V03:K0:x").placement == "inbox"


def test_spamassassin_and_its_rules() -> None:
    found = verdict(
        "X-Spam-Status: Yes, score=6.5 required=5.0 tests=BAYES_99,HTML_MESSAGE=0.001,\r\n\tURIBL_BLACK=1.7"
        " autolearn=no version=4.0.1"
    )
    assert (found.spam, found.scores) == (True, {"spamassassin": 6.5, "spamassassin_required": 5.0})
    assert [rule.name for rule in found.rules] == ["BAYES_99", "HTML_MESSAGE", "URIBL_BLACK"]
    assert found.rules[2].score == 1.7
    assert found.placement is None


def test_rspamd_and_barracuda() -> None:
    found = verdict("X-Spamd-Result: default: False [-1.20 / 15.00];\r\n\tDMARC_POLICY_ALLOW(-0.50)[x,none];")
    assert (found.spam, found.scores["rspamd"], found.rules[0].name) == (False, -1.2, "DMARC_POLICY_ALLOW")
    found = verdict(
        "X-Barracuda-Spam-Status: No, SCORE=0.00 using global scores of TAG_LEVEL=3.5 KILL_LEVEL=9.0"
        " tests=A_B"
    )
    assert found.scores == {"barracuda": 0.0, "barracuda_required": 9.0}


def test_what_the_message_brought_along_places_nothing() -> None:
    raw = f"{BORDER}\r\nX-Apple-MoveToFolder: INBOX\r\nX-Spam-Score: 1.5\r\n\r\n".encode()
    found = read_headers(raw, OWN).verdict
    assert found is not None
    assert (found.placement, found.trusted, found.scores) == (None, False, {"spamassassin": 1.5})
