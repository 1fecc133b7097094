"""What a survey of records may touch, put together."""

from __future__ import annotations

from agent.tls import client_context
from probes.clock import Clock, SystemClock
from probes.dns import Resolver
from probes.http import Fetcher
from probes.records.reach import SmtpReach
from probes.records.servers import Authorities
from probes.records.survey import SurveyMeans


def survey_means(
    resolver: Resolver,
    clock: Clock | None = None,
    *,
    ca_file: str | None = None,
    allow_loopback: bool = False,
    dns_only: bool = False,
) -> SurveyMeans:
    """The means of a survey. dns_only: no mail server and no web server is contacted.

    Raises ConfigError where ca_file cannot be read.
    """
    clock, context = clock or SystemClock(), client_context(ca_file)
    return SurveyMeans(
        resolver=resolver,
        fetcher=None if dns_only else Fetcher(resolver, clock, allow_loopback, context),
        clock=clock,
        reach=None if dns_only else SmtpReach(context),
        authorities=Authorities(resolver),
    )
