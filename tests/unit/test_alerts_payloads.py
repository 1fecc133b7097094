"""Payloads field by field as a loopback server receives them, and their limits under hostile text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

from alerts.causes import Scope, ScopeKind
from alerts.delivery import Delivery
from alerts.http import AiohttpPoster, HttpReply
from alerts.lifecycle import Alert, AlertState, LikelyCause, Member, Transition, TransitionKind
from alerts.notification import Action, Gate, Notification, digest, from_json, notifications, sample, to_json
from alerts.notifiers import pagerduty, slack
from alerts.notifiers.alertmanager import AlertmanagerNotifier
from alerts.notifiers.factory import make_notifier
from alerts.notifiers.webhook import verify
from alerts.settings import (
    AlertKind,
    AlertmanagerSettings,
    Match,
    PagerDutySettings,
    ReceiverSettings,
    RouteSettings,
    SlackSettings,
    TemplateSettings,
    WebhookSettings,
)
from alerts.texts import Pages
from probes.canary.replies import meaning
from probes.errors import ConfigError
from probes.outcome import Severity

NOW = 1_800_000_000.0
PAGES = Pages("https://canary.example", agent="canary-1")
REPLY = '550 5.7.26 (unauthenticated) "blocked"'


def member(seed: str, **more: Any) -> Member:
    return Member(AlertKind.REJECTED, NOW - 2700, "app", seed, "gmail", "", "rejected", REPLY, **more)


ALERT = Alert(
    "mailcanary/mail/sender-provider:app/gmail/1799997300",
    AlertKind.REJECTED,
    Scope(ScopeKind.SENDER_PROVIDER, "app/gmail"),
    NOW - 2700,
    AlertState.FIRING,
    Severity.ERROR,
    {"app/gmail-1": member("gmail-1"), "app/gmail-2": member("gmail-2")},
    (LikelyCause("listed", "192.0.2.1 listed at zen.example", NOW - 3600, "https://delist.example/"),),
    "policy",
    senders=1,
    seeds=2,
    providers=1,
    peak=2,
)
OVER = replace(ALERT, state=AlertState.RESOLVED, members={}, last=member("gmail-1"), resolved_at=NOW + 900)
SLACK = ReceiverSettings(slack=SlackSettings("x"))


def trigger(alert: Alert = ALERT) -> Notification:
    fired = Transition(TransitionKind.FIRED, alert, NOW, True)
    return notifications(fired, {"r": SLACK}, (), PAGES)[0]


def ended(alert: Alert = OVER) -> Notification:
    over = replace(alert, ended_by="all good again")
    return notifications(Transition(TransitionKind.RESOLVED, over, NOW + 900, True), {"r": SLACK}, (), PAGES)[
        0
    ]


@dataclass
class Server:
    """A loopback HTTP receiver that keeps what it got and answers what it is told to."""

    url: str = ""
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str], str]] = field(default_factory=list)

    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.got]

    async def handle(self, request: web.Request) -> web.Response:
        self.got.append((request.path, dict(request.headers), await request.read()))
        status, headers, text = self.answers.pop(0) if self.answers else (200, {}, "ok")
        return web.Response(status=status, headers=headers, text=text)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    app = web.Application()
    app.router.add_post("/{rest:.*}", found.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[AiohttpPoster]:
    async with AiohttpPoster() as poster:
        yield poster


WHAT = "Mail from sender app is rejected at gmail only"
TITLE = f"{WHAT}: refused by the provider's policy"
KEY = ALERT.key
CAUSE = (
    "192.0.2.1 listed at zen.example, seen 2027-01-15 07:00 UTC, 15 min before the first failure\n"
    "Only gmail refuses mail from app, with the SMTP reply above: a policy or reputation decision there. "
    "Other providers still accept it."
)
NEXT = (
    f"{meaning('unauthenticated').next_step} Until what the reply above asks for is done, send less to "
    "gmail, not more; `mailcanary why app/gmail-1` shows all tries with their replies."
)
SILENCE = f"mailcanary alerts silence --key '{KEY}' --for 2h --comment 'why'"
EVIDENCE = (
    f"2 x SMTP reply {REPLY}\nwhich means: {meaning('unauthenticated').text}\n"
    "2 x rejected\nroutes: app/gmail-1, app/gmail-2"
)
SECTIONS = {
    "What": f"{WHAT}. 2 failing routes now (2 rejected).",
    "Since": "2027-01-15 07:15 UTC (45 min)",
    "Evidence": EVIDENCE,
    "Likely cause": CAUSE,
    "Next step": NEXT,
    "Runbook": "https://canary.example/runbooks/rejected",
    "Silence": SILENCE,
    "Agent": "canary-1",
}
LINKS = {
    "Runbook": "https://canary.example/runbooks/rejected",
    "Alert": f"https://canary.example/alerts?key={KEY}",
    "Delisting": "https://delist.example/",
}


async def test_pagerduty_trigger_and_resolve(server: Server, http: AiohttpPoster) -> None:
    server.answers = [(202, {}, "{}"), (202, {}, "{}")]
    notifier = pagerduty.PagerDutyNotifier(PagerDutySettings("R0UTING", server.url + "/v2/enqueue"), http)
    assert (await notifier.send(trigger(), NOW)).ok
    assert (await notifier.send(ended(), NOW)).ok
    assert [path for path, _, _ in server.got] == ["/v2/enqueue"] * 2
    first, second = server.bodies()
    assert first == {
        "routing_key": "R0UTING",
        "event_action": "trigger",
        "dedup_key": KEY,
        "client": "canary-1",
        "client_url": LINKS["Alert"],
        "links": [{"href": url, "text": label} for label, url in LINKS.items()],
        "payload": {
            "summary": f"[FIRING error] {TITLE}",
            "source": "canary-1",
            "severity": "error",
            "timestamp": "2027-01-15T07:15:00.000Z",
            "component": "sender-provider:app/gmail",
            "group": "mail",
            "class": "rejected",
            "custom_details": {
                **SECTIONS,
                "kind": "rejected",
                "scope": "sender-provider:app/gmail",
                "diagnosis": "policy",
                "own": False,
                "started": "2027-01-15 07:15 UTC",
                "failing": 2,
                "worst": 2,
                "senders": 1,
                "seeds": 2,
                "providers": 1,
                "members": ["app/gmail-1", "app/gmail-2"],
                "members_left_off": 0,
                "likely_causes": ["listed: 192.0.2.1 listed at zen.example (2027-01-15 07:00 UTC)"],
            },
        },
    }
    assert second == {"routing_key": "R0UTING", "event_action": "resolve", "dedup_key": KEY}


async def test_slack_trigger_and_resolve(server: Server, http: AiohttpPoster) -> None:
    notifier = slack.SlackNotifier(SlackSettings(server.url + "/services/T/B/X"), http)
    assert (await notifier.send(trigger(), NOW)).ok
    assert (await notifier.send(ended(), NOW)).ok
    first, second = server.bodies()

    def section(name: str, text: str) -> dict[str, Any]:
        return {"type": "section", "text": {"type": "mrkdwn", "text": f"*{name}*\n{text}"}}

    def frame(title: str, blocks: list[dict[str, Any]], sign: str, at: str) -> dict[str, Any]:
        head = {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": False}}
        links = " · ".join(f"<{url}|{label}>" for label, url in LINKS.items())
        link = {"type": "section", "text": {"type": "mrkdwn", "text": links}}
        foot = {"type": "context", "elements": [{"type": "mrkdwn", "text": f"{sign} {at} · {KEY}"}]}
        return {"text": f"{sign} {title}", "blocks": [head, *blocks, link, foot]}

    shown = SECTIONS | {"Silence": f"`{SILENCE}`"}
    body = [section(name, text) for name, text in shown.items()]
    assert first == frame(f"[FIRING error] {TITLE}", body, ":rotating_light:", "2027-01-15 08:00 UTC")
    over = [
        section("What", f"Over: {WHAT}. At its worst 2 failed at once."),
        section("When", "2027-01-15 07:15 UTC to 2027-01-15 08:15 UTC (1 h 0 min)"),
        section("Likely cause", "192.0.2.1 listed at zen.example, seen 2027-01-15 07:00 UTC"),
        section("How it ended", "all good again"),
        section("Agent", "canary-1"),
    ]
    assert second == frame(f"[RESOLVED error] {TITLE}", over, ":white_check_mark:", "2027-01-15 08:15 UTC")


HOSTILE = (
    "<!channel> <@U1> & *b* `c` \u202egnp.exe\u202c \x00\x1b[31m \u05e9\u05dc\u05d5\u05dd "
    + "\u0645\u0631\u062d\u0628\u0627 "
    + "\U0001f4a9" * 40
    + "&<>" * 3000
)


def hostile_alert(members: int) -> Alert:
    found = {
        f"{HOSTILE[:60]}{i}/seed-{i}": replace(
            member(f"seed-{i}"), sender=f"{HOSTILE[:60]}{i}", text=HOSTILE, reply=f"{i} {HOSTILE}"
        )
        for i in range(members)
    }
    causes = tuple(LikelyCause("dns", HOSTILE, NOW, f"https://x.example/{i}|{HOSTILE}") for i in range(30))
    scope = Scope(ScopeKind.SENDER, HOSTILE)
    return replace(
        ALERT, key=f"mailcanary/mail/{HOSTILE}/1", scope=scope, members=found, causes=causes, peak=members
    )


@pytest.mark.parametrize("members", [1, 2_000])
def test_limits_hold_for_hostile_text_and_huge_incidents(members: int) -> None:
    found = replace(trigger(hostile_alert(members)), title=HOSTILE * 2)
    message = slack.payload(found)
    assert len(message["blocks"]) <= 50
    assert len(message["text"]) <= 3000
    for block in message["blocks"]:
        texts = [block["text"]] if "text" in block else block["elements"]
        for text in texts:
            assert 0 < len(text["text"]) <= (150 if block["type"] == "header" else 3000)
            assert "<!" not in text["text"]
            assert "<@" not in text["text"]
            assert "\u202e" not in text["text"]
            assert not text["text"].endswith(("&", "&a", "&am", "&l", "&g"))
    assert "\u05e9\u05dc\u05d5\u05dd" in message["text"], "right-to-left letters stay"
    event = pagerduty.payload(found, "key")
    assert len(event["dedup_key"]) <= 255
    assert len(event["payload"]["summary"]) <= 1024
    assert len(json.dumps(event).encode()) <= 512 * 1024
    assert event["payload"]["custom_details"]["failing"] == members


def test_long_keys_stay_apart() -> None:
    a, b = (pagerduty.dedup_key("k" * 300 + end) for end in "ab")
    assert a != b
    assert len(a) == len(b) == 255


Send = Callable[[str, AiohttpPoster], Awaitable[Delivery]]


def _slack(url: str, http: AiohttpPoster) -> Awaitable[Delivery]:
    return slack.SlackNotifier(SlackSettings(url), http, 0.2).send(trigger(), NOW)


def _pagerduty(url: str, http: AiohttpPoster) -> Awaitable[Delivery]:
    return pagerduty.PagerDutyNotifier(PagerDutySettings("SECRETKEY", url), http, 0.2).send(trigger(), NOW)


@pytest.mark.parametrize("send", [_slack, _pagerduty])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((500, {}, "oops"), ("server_error", False, None)),
        ((503, {"Retry-After": "7"}, ""), ("server_error", False, 7.0)),
        ((429, {"Retry-After": "30"}, ""), ("rate_limited", False, 30.0)),
        ((429, {"Retry-After": "Fri, 15 Jan 2027 08:02:00 GMT"}, ""), ("rate_limited", False, 120.0)),
        ((429, {"Retry-After": "soon"}, ""), ("rate_limited", False, 30.0)),
        ((404, {}, "no_service"), ("refused", True, None)),
        ((403, {}, "invalid_token SECRETKEY"), ("refused", True, None)),
        ((302, {"Location": "http://127.0.0.1:9/"}, ""), ("refused", True, None)),
    ],
)
async def test_answers(
    server: Server, http: AiohttpPoster, send: Send, answer: Any, expected: tuple[str, bool, float | None]
) -> None:
    server.answers = [answer]
    found = await send(server.url, http)
    assert (found.ok, found.reason, found.permanent, found.retry_after) == (False, *expected)
    assert "SECRETKEY" not in found.detail or send is _slack


async def test_no_server_is_unreachable_and_the_url_stays_secret(http: AiohttpPoster) -> None:
    found = await _slack("http://127.0.0.1:1/services/SECRET", http)
    assert (found.ok, found.reason, "SECRET" in found.detail) == (False, "unreachable", False)


async def test_slack_falls_back_to_plain_text_where_blocks_are_refused(
    server: Server, http: AiohttpPoster
) -> None:
    server.answers = [(400, {}, "invalid_blocks")]
    assert (await _slack(server.url, http)).ok
    assert list(server.bodies()[1]) == ["text"]


async def test_webhook_is_signed(server: Server, http: AiohttpPoster) -> None:
    settings = ReceiverSettings(webhook=WebhookSettings(server.url, "s3cret", {"X-Team": "mail"}))
    assert (await make_notifier("hook", settings, http).send(trigger(), NOW)).ok
    _, headers, body = server.got[0]
    stamp, signed = headers["X-Mailcanary-Timestamp"], headers["X-Mailcanary-Signature"]
    assert headers["X-Team"] == "mail"
    assert verify("s3cret", stamp, body, signed, NOW)
    assert not verify("s3cret", stamp, body + b" ", signed, NOW)
    assert not verify("other", stamp, body, signed, NOW)
    assert not verify("s3cret", stamp, body, signed, NOW + 301), "a replay"
    assert json.loads(body)["schema"] == "mailcanary.notification/1"
    assert from_json(json.loads(body)) == trigger()


async def test_alertmanager_feed_and_ends(server: Server, http: AiohttpPoster) -> None:
    notifier = AlertmanagerNotifier(AlertmanagerSettings(server.url, labels={"team": "mail"}), http)
    firing = replace(ALERT, told="error")
    await notifier.send(trigger(), NOW)
    await notifier.feed([firing], PAGES, NOW + 60)
    await notifier.feed([replace(firing, severity=Severity.WARNING)], PAGES, NOW + 120)
    await notifier.feed([], PAGES, NOW + 180)
    await notifier.feed([], PAGES, NOW + 500)
    sent = [
        [(a["labels"]["severity"], a["startsAt"][11:19], a["endsAt"][11:19]) for a in b]
        for b in server.bodies()
    ]
    assert sent == [
        [("critical", "07:15:00", "08:04:00")],
        [("critical", "07:15:00", "08:05:00")],
        [("critical", "07:15:00", "08:02:00"), ("warning", "07:15:00", "08:06:00")],
        [("critical", "07:15:00", "08:02:00"), ("warning", "07:15:00", "08:03:00")],
    ], "the fifth time nothing is left to say: nothing is sent"
    path, labels = server.got[0][0], server.bodies()[0][0]["labels"]
    assert path == "/api/v2/alerts"
    assert labels == server.bodies()[1][0]["labels"]
    assert labels == {
        "alertname": "MailcanaryDelivery",
        "incident": KEY,
        "severity": "critical",
        "agent": "canary-1",
        "team": "mail",
    }


async def test_tests_are_marked_and_leave_no_page_open(server: Server, http: AiohttpPoster) -> None:
    server.answers = [(202, {}, ""), (202, {}, "")]
    notifier = pagerduty.PagerDutyNotifier(PagerDutySettings("k", server.url), http)
    assert (await notifier.send(sample("oncall", NOW), NOW)).ok
    assert [b["event_action"] for b in server.bodies()] == ["trigger", "resolve"]
    assert server.bodies()[0]["payload"]["summary"].startswith("[TEST]")


def test_templates_replace_and_a_bad_one_falls_back_and_says_so() -> None:
    from alerts import templates

    good = TemplateSettings(
        "{{ n.severity }}: {{ n.scope }}", "since {{ n.started | time }}\n{{ sections['Evidence'] }}"
    )
    found = templates.render(good, trigger())
    assert found.title == "error: sender-provider:app/gmail"
    assert found.body.startswith("since 2027-01-15 07:15 UTC\n2 x SMTP")
    for bad in ("{{ nothing.here }}", "{{ ''.__class__.__mro__ }}", "{{ 1 / 0 }}"):
        fallen = templates.render(TemplateSettings(bad), trigger())
        assert fallen.title == trigger().title
        assert "template failed" in fallen.body
    with pytest.raises(ConfigError, match="template body"):
        templates.check(TemplateSettings(body="{% if %}"))


def test_routing_gates_and_escalation() -> None:
    receivers = dict.fromkeys(("chat", "oncall", "boss", "ours"), SLACK)
    routes = (
        RouteSettings(("chat",)),
        RouteSettings(("oncall",), Match(min_severity=Severity.ERROR, own=False), ("boss", "chat"), 1800.0),
        RouteSettings(("ours",), Match(own=True)),
    )
    fired = notifications(Transition(TransitionKind.FIRED, ALERT, NOW, True), receivers, routes)
    assert [(n.receiver, n.gate, n.not_before) for n in fired] == [
        ("chat", Gate.ALWAYS, NOW),
        ("oncall", Gate.ALWAYS, NOW),
        ("boss", Gate.IF_OPEN, NOW + 1800),
    ]
    over = notifications(Transition(TransitionKind.RESOLVED, OVER, NOW, True), receivers, routes)
    assert {(n.receiver, n.gate) for n in over} == {(n, Gate.IF_TOLD) for n in receivers}
    muted = Transition(TransitionKind.FIRED, ALERT, NOW, False)
    assert notifications(muted, receivers, routes) == []
    assert len({n.id for n in [*fired, *over]}) == 7


def test_notifications_go_through_json_and_digest() -> None:
    found = trigger()
    assert from_json(json.loads(json.dumps(to_json(found)))) == found
    many = [replace(found, id=str(i), severity=list(Severity)[i % 4]) for i in range(100)]
    one = digest([*many, ended()], NOW)
    assert one.action is Action.DIGEST
    assert one.severity is Severity.CRITICAL
    assert one.title == "[DIGEST] 101 notifications: 100 failing, 1 resolved"
    assert one.body.endswith("and 41 more: mailcanary alerts list")
    assert len(slack.payload(one)["blocks"]) <= 50


def test_a_receiver_names_exactly_one_service(http: AiohttpPoster) -> None:
    for settings in (ReceiverSettings(), ReceiverSettings(SlackSettings("x"), PagerDutySettings("y"))):
        with pytest.raises(ConfigError, match="exactly one"):
            make_notifier("r", settings, http)


class Recorder:
    """An HttpPoster that only remembers where it was sent to."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    async def post(self, url: str, **_: Any) -> HttpReply:
        self.urls.append(url)
        return HttpReply(202)


async def test_apprise_really_delivers_and_hides_its_urls(server: Server, http: AiohttpPoster) -> None:
    from alerts.notifiers.apprise import redacted

    url = server.url.replace("http://", "json://") + "/hook/SECRET?-unused=1"
    notifier = make_notifier("other", ReceiverSettings(apprise=(url,)), http)
    assert (await notifier.send(trigger(), NOW)).ok
    assert (await notifier.send(ended(), NOW)).ok
    first, second = server.bodies()
    assert (first["title"], first["type"], second["type"]) == (trigger().title, "failure", "success")
    assert first["message"].startswith("What: Mail from sender app")
    assert "Delisting: https://delist.example/" in first["message"]
    server.answers = [(500, {}, ""), (200, {}, "")]
    failed = await notifier.send(trigger(), NOW)
    assert (failed.ok, "SECRET" in failed.detail) == (False, False)
    assert "TIiajk" not in redacted("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/")


async def test_apprise_urls_of_slack_and_pagerduty_take_the_native_way() -> None:
    recorder = Recorder()
    urls = ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/", "pagerduty://ROUTINGKEY@APIKEY")
    notifier = make_notifier("both", ReceiverSettings(apprise=urls), recorder)
    assert (await notifier.send(trigger(), NOW)).ok
    assert recorder.urls == [
        "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "https://events.pagerduty.com/v2/enqueue",
    ]
    with pytest.raises(ConfigError, match="nosuch:"):
        make_notifier("bad", ReceiverSettings(apprise=("nosuch://SECRET",)), recorder)
