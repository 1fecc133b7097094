"""Alerts about mail: routes that fail or fall silent, authentication, delay, blocklists."""

from __future__ import annotations

from collections.abc import Callable

from agent.prometheus.rule import Rule, alert
from agent.prometheus.shape import Shape, matchers
from agent.prometheus.windows import burns, duration
from agent.schedule import JITTER

SCAN = 60.0
"""Seconds in which a full scan after the deadline surely ends."""


def mail_alerts(shape: Shape) -> list[Rule]:
    """What is wrong with mail, beside the burn rates."""
    rules = [*_routes(shape), _silent_provider(shape), _authentication(shape), _slow(shape)]
    if shape.sweep is not None:
        rules.append(_listed(shape))
    return rules


def _routes(shape: Shape) -> list[Rule]:
    intervals = shape.intervals()
    everything = [pair for pairs in intervals.values() for pair in pairs]
    rules: list[Rule] = []
    for (every, deadline), pairs in intervals.items():
        chosen = matchers(pairs, everything, ("sender", "seed"))
        pair = [_failing(shape, every, deadline, chosen), _unknown(shape, every, deadline, chosen)]
        if len(intervals) > 1:
            for rule in pair:
                rule["labels"]["interval"] = f"{duration(every)}/{duration(deadline)}"
        rules += pair
    return rules


def _over(selectors: list[str], one: Callable[[str], str]) -> str:
    """The expression for each selector, joined by `or`."""
    if len(selectors) == 1:
        return one(f"{{{selectors[0]}}}" if selectors[0] else "")
    return "\nor\n".join(f"({one(f'{{{selector}}}')})" for selector in selectors)


def _failing(shape: Shape, every: float, deadline: float, selectors: list[str]) -> Rule:
    # The gap that one lost canary leaves, however the jitter falls, and until the next must be judged.
    gap = duration((2 + 2 * JITTER) * every + deadline + SCAN)
    seconds = f"{(2 + 2 * JITTER) * every + deadline + SCAN:g}"

    def one(chosen: str) -> str:
        seen = f"mailcanary_canary_last_success_timestamp_seconds{chosen}"
        return (
            f"(mailcanary_canary_outcome{chosen} == 0\n"
            f" and mailcanary_time_seconds - on (job, instance) group_right () {seen} > {seconds})\n"
            f"or\n(mailcanary_canary_outcome{chosen} == 0\n"
            f" and mailcanary_canary_outcome{chosen} offset {gap} == 0 unless {seen})"
        )

    return alert(
        shape,
        "MailcanaryRouteFailing",
        _over(selectors, one),
        severity="warning",
        summary="{{ $labels.sender }} to {{ $labels.seed }}: several canaries in a row failed",
        description=f"None arrived where it should for more than {gap}, and the newest verdict is fail.",
        runbook="missing",
        dashboard="route",
    )


def _unknown(shape: Shape, every: float, deadline: float, selectors: list[str]) -> Rule:
    return alert(
        shape,
        "MailcanaryRouteUnknown",
        _over(
            selectors,
            lambda chosen: (
                f"max without (reason) (mailcanary_canary_unknown{chosen}) == 1\n"
                f"or\n(mailcanary_canary_last_success_timestamp_seconds{chosen}\n"
                f" unless mailcanary_canary_outcome{chosen}"
                f" unless max without (reason) (mailcanary_canary_unknown{chosen})) > 0"
            ),
        ),
        severity="warning",
        lasting=2 * every + deadline,
        summary="{{ $labels.sender }} to {{ $labels.seed }}: nobody can tell whether mail arrives",
        description="Its canaries cannot be judged, or none was judged for three intervals: a fault of ours, "
        "not of mail.",
        runbook="seed_unreadable",
        dashboard="route",
    )


def _silent_provider(shape: Shape) -> Rule:
    seconds = 2 * shape.slowest + shape.patience + 300.0
    window = duration(seconds)
    return alert(
        shape,
        "MailcanaryProviderSilent",
        f"sum by (job, provider) (increase(mailcanary_canary_results_total[{window}])) == 0\n"
        f"and on (job) max by (job) (mailcanary_time_seconds - process_start_time_seconds) > {seconds:g}\n"
        "unless on (job) max by (job) (mailcanary_paused) == 1",
        severity="warning",
        lasting=300.0,
        summary="No verdict about any canary to {{ $labels.provider }}",
        description=f"Not one canary to {{{{ $labels.provider }}}} got a verdict for {window}: "
        "not sent, or its mailboxes cannot be read.",
        runbook="no_runs",
        dashboard="overview",
    )


def _authentication(shape: Shape) -> Rule:
    rate = min(shape.rates(("sender", "provider")).values())
    window = duration(burns(rate, shape.smallest)[0].long)
    per = "sum by (job, sender, provider, method)"
    counter = "mailcanary_authentication_results_total"
    # "none" is no failure of SPF's or DKIM's own, but mail of ours must carry both.
    failed = f'{per} (increase({counter}{{method=~"spf|dkim|dmarc",result!="pass"}}[{window}]))'
    return alert(
        shape,
        "MailcanaryAuthenticationFailing",
        f"{failed} > 1.5\nand\n{failed} / {per} (increase({counter}[{window}])) > 0.25",
        severity="warning",
        summary="{{ $labels.method }} of {{ $labels.sender }} does not pass at {{ $labels.provider }}",
        description=f"{{{{ $value | humanize }}}} canaries of the last {window} did not pass "
        "{{ $labels.method }} by the provider's own word.",
        runbook="authentication",
        dashboard="route",
    )


def _slow(shape: Shape) -> Rule:
    rate = min(shape.rates(("sender", "provider")).values())
    window = duration(burns(rate, shape.smallest)[0].long)
    limit = max(shape.patience / 2, 60.0)
    bucket = (
        f"sum by (job, sender, provider, le) (increase(mailcanary_canary_delivery_seconds_bucket[{window}]))"
    )
    return alert(
        shape,
        "MailcanarySlow",
        f"histogram_quantile(0.5, {bucket}) > {limit:g}",
        severity="warning",
        summary="Mail of {{ $labels.sender }} takes long to {{ $labels.provider }}",
        description=f"Half of the canaries of the last {window} took longer than "
        "{{ $value | humanizeDuration }}.",
        runbook="slow",
        dashboard="route",
    )


def _listed(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanaryListed",
        "max by (job, subject, zone) (mailcanary_blocklist_listed) == 1",
        severity="warning",
        lasting=60.0,
        summary="{{ $labels.subject }} is listed in {{ $labels.zone }}",
        description="The zone answered its own test entries as it should, so the listing is real.",
        runbook="listed",
        dashboard="reputation",
    )
