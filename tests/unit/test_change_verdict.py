"""Differences between before and after, and what may be concluded from them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from probes.change.around import Around, Trouble
from probes.change.compare import compare
from probes.change.facts import Facts, Mark
from probes.change.headers import header_diff
from probes.change.verdict import State, assess, state_of
from probes.errors import DataError
from probes.outcome import Outcome, Severity

SIGNED = "dkim-signature: v=1; a=rsa-sha256; d=acme.example; s=s1; b=abc"
GOOD = Facts(
    route="app/gmail-1",
    provider="gmail",
    at=1000.0,
    outcome="pass",
    placement="inbox",
    authentication={
        "spf": Mark("pass", "acme.example"),
        "dkim": Mark("pass", "acme.example", "s1"),
        "dmarc": Mark("pass", "acme.example", "none", "spf+dkim"),
    },
    ip="192.0.2.1",
    helo="mail.acme.example",
    tls="TLS1.3",
    encrypted=True,
    hops=("mx.google.com", "mail.acme.example"),
    scores={"spamassassin": 0.1},
    rules={"DKIM_VALID": -0.1},
    latency=2.0,
    header=(SIGNED, "subject: hello"),
)


def broken(**marks: Mark) -> Facts:
    return replace(GOOD, at=2000.0, authentication={**GOOD.authentication, **marks})


def verdict(before: list[Facts], after: list[Facts], **more: object) -> tuple[str, str, str]:
    name = GOOD.route
    found = assess(State({name: after}, **more), State({name: before}) if before else None)  # type: ignore[arg-type]
    return found.verdicts[0].outcome.value, found.verdicts[0].cause, found.verdicts[0].words


def test_faults_are_told_as_they_are_where_there_is_nothing_to_compare_with() -> None:
    trouble = Trouble(Severity.ERROR, "no DMARC record", "publish", "dmarc")
    faults = {"dmarc-missing _dmarc.a.example": trouble}
    found = assess(State({GOOD.route: [GOOD]}, around={"app": Around(faults=faults)}))
    assert found.outcome is Outcome.PASS
    told = found.verdicts[1]
    assert told.words == (
        "app: nothing to compare with, wrong now: _dmarc.a.example: no DMARC record; publish"
    )
    assert told.differences[0].before == "not known"


def test_the_sentence_of_the_issue() -> None:
    after = replace(
        broken(dkim=Mark("fail", "acme.example", "s2"), dmarc=Mark("fail", "acme.example", "none")),
        outcome="fail",
        placement="spam",
        reason="spam",
        header=(SIGNED.replace("s1", "s2"),),
    )
    around = {"app": Around(keys={"s2._domainkey.acme.example": "no-key"})}
    outcome, cause, words = verdict([GOOD], [after], around=around)
    assert (outcome, cause) == ("fail", "dkim")
    assert words.startswith(
        "app/gmail-1: dkim pass (s1) -> fail (s2: no key), dmarc pass (none) -> fail (none), inbox -> spam; "
        "publish s2._domainkey.acme.example"
    )


@pytest.mark.parametrize(
    ("after", "what", "severity"),
    [
        (broken(spf=Mark("softfail", "acme.example")), "spf", Severity.ERROR),
        (broken(spf=Mark("temperror", "acme.example")), "spf", Severity.WARNING),
        (broken(dkim=Mark("pass", "acme.example", "s2")), "dkim", Severity.INFO),
        (broken(dmarc=Mark("pass", "acme.example", "none", "spf")), "dmarc", Severity.INFO),
        (replace(GOOD, encrypted=False, tls=""), "tls", Severity.ERROR),
        (replace(GOOD, tls="TLS1.2"), "tls", Severity.WARNING),
        (replace(GOOD, tls="TLS1.1"), "tls", Severity.ERROR),
        (replace(GOOD, ip="192.0.2.9"), "ip", Severity.INFO),
        (replace(GOOD, helo="localhost"), "helo", Severity.WARNING),
        (replace(GOOD, hops=("mx.google.com",)), "hops", Severity.INFO),
        (replace(GOOD, latency=30.0), "latency", Severity.WARNING),
        (replace(GOOD, scores={"spamassassin": 4.0}, rules={"FREE_MONEY": 3.9}), "score", Severity.WARNING),
        (replace(GOOD, placement="tab", category="promotions"), "placement", Severity.WARNING),
    ],
)
def test_one_difference(after: Facts, what: str, severity: Severity) -> None:
    (found,) = compare(GOOD, after)
    assert (found.what, found.severity) == (what, severity)


def test_nothing_changed_says_so() -> None:
    assert verdict([GOOD], [replace(GOOD, at=2000.0, latency=2.5)]) == (
        "pass",
        "",
        "app/gmail-1: inbox, nothing changed",
    )


def test_the_seeds_own_fault_is_never_fail() -> None:
    full = Facts(
        "app/gmail-1", "gmail", 2000.0, "unknown", "rejected", reason="seed-fault", reply="552 5.2.2 full"
    )
    outcome, cause, words = verdict([GOOD], [full])
    assert (outcome, cause) == ("unknown", "seed-fault")
    assert "the seed's own fault" in words


def test_what_failed_alike_before_cannot_be_told() -> None:
    spam = replace(GOOD, outcome="fail", placement="spam", reason="spam")
    assert verdict([spam], [replace(spam, at=2000.0)])[:2] == ("unknown", "failed-before")
    assert verdict([], [spam])[:2] == ("fail", "placement")
    assert verdict([GOOD], [spam])[:2] == ("fail", "placement")


@pytest.mark.parametrize(
    ("passes", "failures", "expected"),
    [
        (5, 0, ("pass", "")),  # all alike: the fact, without a claim about the rate
        (4, 1, ("unknown", "too-few-samples")),
        (40, 1, ("pass", "")),
        (3, 5, ("fail", "placement")),
    ],
)
def test_a_rate_is_claimed_with_enough_samples_only(
    passes: int, failures: int, expected: tuple[str, str]
) -> None:
    spam = replace(GOOD, outcome="fail", placement="spam", reason="spam")
    after = [replace(spam, at=2000.0 + n) for n in range(failures)]
    after += [replace(GOOD, at=3000.0 + n) for n in range(passes)]
    outcome, cause, words = verdict([GOOD], after)
    assert (outcome, cause) == expected
    assert "5% error either way" in words


def test_authentication_decides_though_all_are_in_the_inbox() -> None:
    after = [broken(dkim=Mark("fail", "acme.example", "s1"))] + [replace(GOOD, at=2100.0)] * 20
    assert verdict([GOOD], after)[:2] == ("fail", "dkim")


def test_listings_and_records() -> None:
    listed = {"192.0.2.1 in zen.example": Trouble(Severity.WARNING, "spam source", "https://delist.example")}
    faults = {"ptr-missing 1.2.0.192.in-addr.arpa": Trouble(Severity.ERROR, "no name", "publish", "ptr")}
    known = State({}, {}, {"app": Around()})
    found = assess(State({GOOD.route: [GOOD]}, {}, {"app": Around(listings=listed)}), known)
    assert (found.outcome, found.verdicts[1].cause) == (Outcome.FAIL, "listing")
    found = assess(State({GOOD.route: [GOOD]}, {}, {"app": Around(faults=faults)}), known)
    assert (found.outcome, found.verdicts[1].cause) == (Outcome.FAIL, "ptr")
    # Without a before it may be older than the change: told, and no verdict.
    found = assess(State({GOOD.route: [GOOD]}, {}, {"app": Around(faults=faults)}))
    assert found.outcome is Outcome.PASS
    assert found.verdicts[1].differences[0].severity is Severity.WARNING


def test_not_sent_and_not_judged_are_unknown() -> None:
    found = assess(State({}, {"app/gmail-1": "paused"}))
    assert (found.outcome, found.verdicts[0].words) == (Outcome.UNKNOWN, "app/gmail-1: not sent: paused")
    assert assess(State()).outcome is Outcome.UNKNOWN


def test_a_report_can_be_a_baseline() -> None:
    around = Around(faults={"ptr-missing x": Trouble(Severity.ERROR, "no name", "", "ptr")}, unknown=("y",))
    report = {
        "canaries": [{"created_at": "2026-11-22T00:00:00.000Z", "facts": GOOD.to_json()}],
        "around": {"app": around.to_json()},
    }
    state = state_of(json.loads(json.dumps(report)))
    assert state.routes == {GOOD.route: [GOOD]}
    assert state.around == {"app": around}
    for wrong in (
        {},
        {"canaries": [{}]},
        {"canaries": [{"created_at": "", "facts": {"at": "x"}}]},
        {"canaries": 7},
    ):
        with pytest.raises(DataError):
            state_of(wrong)


def test_the_header_diff_leaves_out_what_always_differs() -> None:
    before = [
        "received: from a ([192.0.2.1]) by mx with ESMTPS id 4jXBD04lnB; Sun, 22 Nov 2026 01:23:28 +0000",
        "message-id: <a@acme.example>",
        "dkim-signature: v=1; d=acme.example; s=s1; t=1795310608; bh=NGwoISX=; b=qRgg3H8i",
    ]
    after = [
        "received: from a ([192.0.2.1]) by mx with ESMTPS id 9zYYY04lnB; Mon, 23 Nov 2026 09:00:00 +0000",
        "message-id: <b@acme.example>",
        "dkim-signature: v=1; d=acme.example; s=s2; t=1795319999; bh=AAAAISX=; b=zzzz3H8i",
    ]
    assert header_diff(before, before) == []
    assert [line[:30] for line in header_diff(before, after)] == [
        "-dkim-signature: v=1; d=acme.e",
        "+dkim-signature: v=1; d=acme.e",
    ]
