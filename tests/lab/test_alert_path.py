"""From real canaries in Junk to one page and its end: what Slack and PagerDuty get, field by field."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.store import incidents
from alerts import codec
from alerts.lifecycle import Alert
from alerts.texts import Pages, advice
from probes.clock import rfc3339
from tests.lab.agents import LabAgent, lab_agent
from tests.lab.breaking import URL, break_, repair, round_of, settings
from tests.lab.receivers import ROUTING_KEY, Tree, receivers
from tests.lab.world.lab import Lab

pytestmark = pytest.mark.lab


WHAT = "Mail from sender app lands in spam at 1 provider"
LISTED = "sender.test listed at domains.dnsbl.test: listed by a test"
BROKEN = "spf=fail dkim=fail dmarc=fail at dovecot (2 of 2 failing routes)"


def sections(alert: Alert) -> Tree:
    """What both say of the trigger, word for word."""
    since, (listed, broken) = Pages.time(alert.started), (Pages.time(c.at) for c in alert.causes)
    return {
        "What": f"{WHAT}. 2 failing routes now (2 spam).",
        "Since": f"{since} (0 min)",
        "Evidence": f"{LISTED}\n"
        "spam, dkim=fail dmarc=fail spf=fail; authentication: dmarc=fail (No valid SPF)\n"
        "spam, dkim=fail dmarc=fail spf=fail\n"
        "routes: app/a, app/b",
        "Likely cause": f"{LISTED}, seen {listed}, when it began\n{BROKEN}, seen {broken}, when it began\n"
        + advice()["listed"]["cause"].format(senders="app"),
        "Next step": advice()["listed"]["next"],
        "Runbook": f"{URL}/runbooks/spam",
        "Silence": f"mailcanary alerts silence --key '{alert.key}' --for 2h --comment 'why'",
        "Agent": "lab",
    }


def links(key: str) -> dict[str, str]:
    """Where both lead."""
    return {
        "Runbook": f"{URL}/runbooks/spam",
        "Alert": f"{URL}/alerts?key={key}",
        "Delisting": "https://lists.example/delist",
    }


def pagerduty(alert: Alert) -> list[Tree]:
    """The trigger and the resolve, every field of them."""
    key, since = alert.key, Pages.time(alert.started)
    listed, broken = (Pages.time(c.at) for c in alert.causes)
    trigger = {
        "routing_key": ROUTING_KEY,
        "event_action": "trigger",
        "dedup_key": key,
        "client": "lab",
        "client_url": f"{URL}/alerts?key={key}",
        "links": [{"href": url, "text": label} for label, url in links(key).items()],
        "payload": {
            "summary": f"[FIRING critical] {WHAT}: on a blocklist",
            "source": "lab",
            "severity": "critical",
            "timestamp": rfc3339(alert.started),
            "component": "sender:app",
            "group": "mail",
            "class": "spam",
            "custom_details": sections(alert)
            | {
                "kind": "spam",
                "scope": "sender:app",
                "diagnosis": "listed",
                "own": False,
                "started": since,
                "failing": 3,
                "worst": 3,
                "senders": 1,
                "seeds": 2,
                "providers": 1,
                "members": ["app/a", "app/b", "listed sender.test domains.dnsbl.test"],
                "members_left_off": 0,
                "likely_causes": [f"listed: {LISTED} ({listed})", f"dkim: {BROKEN} ({broken})"],
            },
        },
    }
    return [trigger, {"routing_key": ROUTING_KEY, "event_action": "resolve", "dedup_key": key}]


def slack(alert: Alert) -> list[Tree]:
    """The two messages, every block of them."""
    key, since = alert.key, Pages.time(alert.started)
    assert alert.fired_at is not None
    assert alert.resolved_at is not None
    end = Pages.time(alert.resolved_at)
    listed, broken = (Pages.time(c.at) for c in alert.causes)
    shown = sections(alert)
    shown["Silence"] = f"`{shown['Silence']}`"
    over = {
        "What": f"Over: {WHAT}. At its worst 3 failed at once.",
        "When": f"{since} to {end} (0 min)",
        "Likely cause": f"{LISTED}, seen {listed}; {BROKEN}, seen {broken}",
        "How it ended": "all good again",
        "Agent": "lab",
    }
    first = ("[FIRING critical]", ":rotating_light:", shown, alert.fired_at)
    second = ("[RESOLVED critical]", ":white_check_mark:", over, alert.resolved_at)
    return [
        message(f"{head} {WHAT}: on a blocklist", parts, f"{sign} {Pages.time(at)} · {key}", sign, links(key))
        for head, sign, parts, at in (first, second)
    ]


def message(title: str, parts: Tree, footer: str, sign: str, found: dict[str, str]) -> Tree:
    """A Slack message of blocks."""
    texts = [f"*{name}*\n{text}" for name, text in parts.items()]
    texts.append(" · ".join(f"<{url}|{label}>" for label, url in found.items()))
    head = {"type": "header", "text": {"type": "plain_text", "text": title, "emoji": False}}
    body = [{"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in texts]
    foot = {"type": "context", "elements": [{"type": "mrkdwn", "text": footer}]}
    return {"text": f"{sign} {title}", "blocks": [head, *body, foot]}


def only_alert(agent: LabAgent) -> Alert:
    """The one alert there has been."""
    (row,) = agent.app.services.database.read_now(lambda conn: incidents.alert_rows(conn, open_only=False))
    return codec.from_json(Alert, row["body"])


async def test_one_page_for_one_cause_and_its_end(lab: Lab, tmp_path: Path) -> None:
    async with (
        receivers() as told,
        lab_agent(lab, tmp_path, **settings(tmp_path, told.settings(tmp_path))) as agent,
    ):
        assert {c.placement for c in await round_of(agent, "app", "bulk", "direct")} == {"inbox"}
        await break_(lab, agent)
        for _ in range(2):
            assert {c.placement for c in await round_of(agent, "app")} == {"spam"}
            assert {c.placement for c in await round_of(agent, "bulk", "direct")} == {"inbox"}
        await told.until(lambda: bool(told.slack and told.pagerduty), "nobody was told")
        await round_of(agent, "app")
        await agent.app.evaluator.once()
        assert (len(told.slack), len(told.pagerduty)) == (1, 1), "one page, however long it lasts"
        await repair(lab, agent)
        for _ in range(2):
            assert {c.placement for c in await round_of(agent, "app")} == {"inbox"}
        await told.until(lambda: len(told.slack) > 1 and len(told.pagerduty) > 1, "never resolved")
        alert = only_alert(agent)
        assert told.pagerduty == pagerduty(alert)
        assert told.slack == slack(alert)
