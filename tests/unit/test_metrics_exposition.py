"""The exposition is what prometheus_client would write; stale series go; odd mail adds none."""

from __future__ import annotations

import random
import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from agent import __version__
from agent.config.models import Route
from agent.metrics import Metrics, budget
from agent.metrics.families import Histogram, Numbers, number
from agent.metrics.process import KINDS, METHODS, RESULTS, STAGES
from agent.metrics.routes import REASONS, Verdict
from agent.metrics.specs import Spec
from probes.canary import track
from probes.canary.placement import judge
from probes.canary.state import Moment, Reply, State
from probes.headers.report import read_headers
from probes.headers.trust import TrustRule
from probes.mailbox.model import Role, SeenMessage
from probes.outcome import Outcome, Placement
from tests.fakes.metrics import NOW, canary, fill


def without_process(text: bytes) -> list[bytes]:
    """Its lines, sorted; CPU, memory and the cost of a scrape move between two of them."""
    moving = (b"process_", b"mailcanary_exposition_")
    return sorted(line for line in text.splitlines() if not line.startswith(moving))


def filled(senders: int = 5, seeds: int = 12) -> Metrics:
    metrics = Metrics(lambda: NOW)
    odd = ['quo"te', "back\\slash", "new\nline", "ünïcode"]
    fill(metrics, [*(f"s{n}" for n in range(senders)), *odd], [f"t{n}" for n in range(seeds)])
    return metrics


def test_line_for_line_what_generate_latest_writes() -> None:
    metrics = filled()
    metrics.add(lambda: [GaugeMetricFamily("mailcanary_extra", 'a "help"\\ with\nall', value=1e9)])
    for _ in ("what counts is 0 at first", "then what it is"):
        theirs = generate_latest(metrics.registry())
        ours = metrics.render()
        assert without_process(ours) == without_process(theirs)
        assert len(ours.splitlines()) > 500


def test_increase_sees_the_first_of_everything_that_counts() -> None:
    metrics = Metrics(lambda: NOW)
    metrics.submitted(canary("s", "a", "gmail", reply=Reply(550, meaning="other"), stages={"connect": 0.02}))
    labels = '{code="550",meaning="other",provider="gmail",sender="s"}'
    stage = 'mailcanary_smtp_stage_seconds_bucket{le="0.05",sender="s",stage="connect"}'
    for shown in ("0.0", "1.0", "1.0"):
        lines = metrics.render().decode().splitlines()
        assert f"mailcanary_smtp_replies_total{labels} {shown}" in lines
        assert f"{stage} {shown}" in lines


@given(st.dictionaries(st.text(max_size=8), st.floats(), max_size=5))
def test_any_label_and_any_value(samples: dict[str, float]) -> None:
    metrics = Metrics(lambda: NOW)
    spec = Spec("odd", "gauge", ("z", "a"), "Help.", "")
    family = Numbers(spec)
    for label, value in samples.items():
        family.labels(label, "x").set(value)
    vars(metrics)["odd"] = family
    assert without_process(metrics.render()) == without_process(generate_latest(metrics.registry()))


@given(st.lists(st.floats(min_value=0, max_value=1e9), max_size=20))
def test_histograms_count_what_is_at_most_the_bound(values: list[float]) -> None:
    from prometheus_client import CollectorRegistry
    from prometheus_client import Histogram as Theirs

    buckets = (1.0, 5.0, 600.0, 1e7)
    spec = Spec("h", "histogram", ("s",), "Help.", "", buckets)
    ours = Histogram(spec)
    registry = CollectorRegistry()
    theirs = Theirs("mailcanary_h", "Help.", ["s"], buckets=buckets, registry=registry)
    ours.labels("x"), theirs.labels("x")
    "".join(ours.text())  # the first scrape of it
    for value in values:
        ours.labels("x").observe(value)
        theirs.labels("x").observe(value)
    text = generate_latest(registry).decode().splitlines()
    expected = [line for line in text if "_created" not in line]
    assert sorted("".join(ours.text()).splitlines()) == sorted(expected)


def test_a_line_follows_its_value() -> None:
    family = Numbers(Spec("n", "counter", (), "Help.", ""))
    for step in range(5):
        assert f"mailcanary_n {number(float(step))}\n" in "".join(family.text())
        family.inc()


def test_the_parser_of_prometheus_client_reads_it_back() -> None:
    metrics = filled()
    metrics.render()
    read = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for f in text_string_to_metric_families(metrics.render().decode())
        for s in f.samples
    }
    labels = (("placement", "inbox"), ("provider", "gmail"), ("sender", 'quo"te'))
    assert read["mailcanary_canaries_total", labels] == 1.0


def test_a_route_that_is_silent_or_left_the_config_vanishes() -> None:
    now = NOW
    metrics = Metrics(lambda: now)
    routes = [Route("s", "a", 900.0, 600.0, 3600.0), Route("s", "b", 900.0, 600.0, 3600.0)]
    metrics.routes.configure(routes)
    metrics.routes.note(Verdict("s", "a", Outcome.PASS, "", NOW, NOW + 2))
    metrics.routes.note(Verdict("s", "b", Outcome.UNKNOWN, "made-up-by-a-server", NOW, None))
    text = metrics.render().decode()
    assert 'mailcanary_canary_outcome{seed="a",sender="s"} 1.0' in text
    assert 'mailcanary_canary_unknown{reason="other",seed="b",sender="s"} 1.0' in text
    now = NOW + 3 * 900 + 600
    text = metrics.render().decode()
    assert "mailcanary_canary_outcome{" not in text
    assert "mailcanary_canary_unknown{" not in text
    assert 'mailcanary_canary_last_success_timestamp_seconds{seed="a"' in text
    metrics.routes.configure(routes[1:])
    assert 'seed="a"' not in metrics.render().decode()


def test_the_canary_sent_last_speaks_for_its_route() -> None:
    metrics = Metrics(lambda: NOW)
    metrics.routes.configure([Route("s", "a", 900.0, 600.0, 3600.0)])
    metrics.routes.note(Verdict("s", "a", Outcome.PASS, "", NOW, NOW + 2))
    metrics.routes.note(Verdict("s", "a", Outcome.FAIL, "missing", NOW - 900, None))
    metrics.routes.note(Verdict("s", "gone", Outcome.FAIL, "missing", NOW, None))
    text = metrics.render().decode()
    assert 'mailcanary_canary_outcome{seed="a",sender="s"} 1.0' in text
    assert "gone" not in text


def test_counters_of_pairs_that_left_the_config_vanish_and_the_others_stay() -> None:
    metrics = Metrics(lambda: NOW)
    metrics.configure({("s", "gmail"), ("t", "gmail")})
    metrics.settled(canary("s", "a", "gmail"))
    metrics.configure({("s", "gmail"), ("s", "yahoo")})
    metrics.render()
    text = metrics.render().decode()
    assert 'mailcanary_canaries_total{placement="inbox",provider="gmail",sender="s"} 1.0' in text
    assert 'mailcanary_canaries_total{placement="spam",provider="yahoo",sender="s"} 0.0' in text
    assert 'sender="t"' not in text


def test_a_negative_latency_is_never_counted() -> None:
    metrics = Metrics(lambda: NOW)
    metrics.settled(canary("s", "a", "gmail", latency=-1.0))
    assert "mailcanary_canary_delivery_seconds_count{" not in metrics.render().decode()


def odd_words(source: random.Random) -> str:
    """What a server or a stranger may write, in part words that mean something."""
    known = ("spf=", "dkim=", "pass", "fail", "softfail", "none", ";", " ", "mx.a.example", "smtp.mailfrom=")
    letters = "".join(chr(source.randrange(1, 0x2FF)) for _ in range(source.randrange(12)))
    return "".join(source.choices(known, k=source.randrange(6))) + letters.replace("\n", "").replace("\r", "")


def odd_message(source: random.Random, words: list[str]) -> SeenMessage:
    """A message whose own words are odd wherever words can be."""
    names = ("Subject", "From", "X-Spam-Status", "X-Spamd-Result", "Received-SPF", "ARC-Seal")
    pick = iter(source.choices(words, k=12))
    lines = [f"Authentication-Results: mx.a.example; {next(pick)}; {next(pick)}={next(pick)}"]
    lines += [f"Received: from {next(pick)} by mx.a.example with {next(pick)}; {next(pick)}"]
    lines += [f"{name}: {next(pick)}" for name in source.sample(names, 3)]
    header = "\r\n".join([*lines, f"{next(pick)}: x"]).encode("utf-8", "replace")
    role, category = source.choice(list(Role)), source.choice([None, next(pick)])
    return SeenMessage(next(pick), role, category, 1, 1, None, 1, NOW, 1.0, header)


def test_hostile_mail_adds_no_series() -> None:
    """10,000 messages through the reader of headers: every label is a name of the config or a closed word."""
    source = random.Random(1)
    words = [odd_words(source) for _ in range(2_000)]
    metrics = Metrics(lambda: NOW)
    metrics.configure({("s", "gmail")})
    metrics.routes.configure([Route("s", "a", 900.0, 600.0, 3600.0)])
    trust = TrustRule(("mx.a.example",), ("mx.a.example",))
    now = Moment(NOW, 1.0, "boot")
    sent = canary(
        "s", "a", "gmail", state=State.SENT, placement=None, outcome=None, seen_at=None, verdicts={}
    )
    judged = 0
    for _ in range(10_000):
        message = odd_message(source, words)
        after = track.arrived(sent, judge(message, read_headers(message.header, trust), now), now)
        odd = source.choices(words, k=4)
        reply = Reply(250, odd[0], odd[1], odd[2], "accepted", "x")
        after = replace(after, reply=reply, stages={"connect": 0.1, odd[3]: 1.0})
        judged += bool(after.verdicts)
        metrics.submitted(after)
        metrics.settled(after)
        metrics.judged(after)
    assert judged > 1_000, "some of it has to be believed"
    closed = {*METHODS, *RESULTS, *STAGES, *(p.value for p in Placement), *(o.value for o in Outcome)}
    closed |= {"s", "a", "gmail", "250", "accepted", "other", *KINDS, *REASONS, __version__}
    labels = re.findall(r'(\w+)="((?:[^"\\\\]|\\\\.)*)"', metrics.render().decode())
    assert {value for name, value in labels if name != "le"} <= closed
    assert len(metrics.render().splitlines()) < budget.series(1, 1, 1, 1)


def test_a_metric_at_its_limit_refuses_and_says_so() -> None:
    metrics = Metrics(lambda: NOW)
    metrics.configure({("s", "gmail")})
    metrics.replies.limit = 3
    for code in range(200, 599):
        metrics.submitted(canary("s", "a", "gmail", reply=Reply(code, meaning="other"), stages={}))
    metrics.render()
    text = metrics.render().decode()
    assert text.count("mailcanary_smtp_replies_total{") == 3
    assert 'mailcanary_series_refused_total{metric="smtp_replies_total"} 396.0' in text
