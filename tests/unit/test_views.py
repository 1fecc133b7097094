"""What several resolvers say of one listing: side by side, and never a delisting that is none."""

from __future__ import annotations

import json

from agent.store.views import HOLDS, Views, differ, heard, stands, to_json, views_of, words, worst
from probes.blocklists.check import Listing
from probes.blocklists.judge import Reason
from probes.outcome import Outcome, Severity

NOW, HOUR = 1_800_000_000.0, 3600.0


def said(listed: bool | None, reason: Reason, severity: Severity = Severity.ERROR) -> Listing:
    outcome = {True: Outcome.FAIL, False: Outcome.PASS, None: Outcome.UNKNOWN}[listed]
    codes = ("127.0.0.2",) if listed else ()
    return Listing("192.0.2.1", "bl.example", outcome, listed, reason, codes, severity=severity)


YES, NO = said(True, Reason.LISTED), said(False, Reason.NOT_LISTED)
REFUSED = said(None, Reason.QUERY_REFUSED)


def after(*looks: tuple[str, Listing, float]) -> Views:
    views: Views = {}
    for resolver, listing, at in looks:
        views = heard(views, resolver, listing, NOW + at, HOUR)
    return views


def test_one_resolver_alone_decides() -> None:
    assert stands(after(("a", YES, 0)), NOW, HOUR)
    assert not stands(after(("a", YES, 0), ("a", NO, HOUR)), NOW + HOUR, HOUR)
    assert stands(after(("a", YES, 0), ("a", REFUSED, HOUR)), NOW + HOUR, HOUR)
    assert not differ(after(("a", YES, 0), ("a", REFUSED, HOUR)))


def test_another_resolver_that_does_not_see_it_ends_nothing() -> None:
    views = after(("a", YES, 0), ("b", NO, HOUR))
    assert stands(views, NOW + HOUR, HOUR)
    assert words(views) == "listed through a; not listed through b"
    assert not stands(heard(views, "a", NO, NOW + 2 * HOUR, HOUR), NOW + 2 * HOUR, HOUR)


def test_a_refusal_is_shown_and_is_no_answer() -> None:
    views = after(("a", YES, 0), ("b", REFUSED, 1))
    assert stands(views, NOW + 1, HOUR)
    assert words(views) == "listed through a; query-refused through b"
    views = after(("a", YES, 0), ("b", YES, 1), ("a", REFUSED, HOUR))
    assert words(views) == "listed through b; listed before, now query-refused through a"


def test_an_old_word_counts_no_more_where_another_says_otherwise() -> None:
    views = after(("a", YES, 0), ("b", NO, HOLDS - 1))
    assert stands(views, NOW + HOLDS - 1, HOUR)
    assert not stands(views, NOW + HOLDS + 1, HOUR)
    assert stands(views, NOW + HOLDS + 1, HOLDS)  # not three sweeps ago
    assert stands(after(("a", YES, 0)), NOW + 9 * HOLDS, HOUR)  # nobody says otherwise
    assert list(heard(views, "b", NO, NOW + HOLDS + 1, HOUR)) == ["b"]


def test_the_gravest_word_counts() -> None:
    views = after(("a", said(True, Reason.LISTED, Severity.CRITICAL), 0), ("b", YES, 1), ("c", NO, 2))
    assert worst(views, but="b") == Severity.CRITICAL.rank
    assert worst(views, but="a") == Severity.ERROR.rank
    assert worst(after(("a", YES, 0)), but="a") == -1


def test_the_store_has_them_whole() -> None:
    views = after(("a", YES, 0), ("b", REFUSED, 1))
    assert views_of(json.loads(json.dumps(to_json(views)))) == views
    assert views_of(None) == {}
