"""Models of the agent and of what it looks at: agent, resolver, routes, limits, blocklists, records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from agent.config.base import Fault, Section, refuse
from agent.config.fields import (
    Domain,
    Duration,
    FilePath,
    Instant,
    Line,
    Listen,
    Name,
    Nameserver,
    Network,
    Url,
    is_loopback,
    read_duration,
    split_host_port,
)
from agent.secrets import Secret

STORES = ("sqlite:///", "postgresql://")


def _store(value: str) -> str:
    if not value.startswith(STORES):
        raise refuse("not a store", "write sqlite:///PATH or postgresql://USER@HOST/DATABASE")
    if not value.startswith("sqlite"):
        try:
            password = urlsplit(value).password
        except ValueError:
            raise refuse("not a store", "write sqlite:///PATH or postgresql://USER@HOST/DATABASE") from None
        if password is not None or "password=" in value:
            raise refuse("a password in the store's URL", "put it in agent.store_password")
    elif len(value) == len("sqlite:///"):
        raise refuse("a store without a path", "write sqlite:///mailcanary.db")
    return value


class Retention(Section):
    """How long things are kept."""

    results: Duration = Field(default=90 * 86400.0, description="Results, events and incidents.")
    messages: Duration = Field(default=14 * 86400.0, description="Headers of canaries that were read back.")
    canaries: Duration = Field(
        default=86400.0,
        description="Canaries in the seed mailboxes; then the agent deletes its own, and only those.",
    )


class Agent(Section):
    """The agent itself."""

    name: Name = Field(default="mailcanary", description="Name of this installation, in alerts and tokens.")
    store: Annotated[str, AfterValidator(_store)] = Field(
        default="sqlite:///mailcanary.db",
        description="Where results live: sqlite:///PATH (relative to this file) or postgresql://USER@HOST/DATABASE.",
    )
    store_password: Secret | None = Field(default=None, description="Password of the PostgreSQL user.")
    listen: Listen = Field(
        default="127.0.0.1:9465",
        description="Address of /metrics, pages and API. Beyond loopback it needs a token.",
    )
    token: Secret | None = Field(
        default=None, description="Bearer token of the web; without one, loopback only."
    )
    external_url: Url | None = Field(
        default=None, description="How people reach the pages; for links in alerts."
    )
    region: Name | None = Field(default=None, description="Region of this agent, in a fleet.")
    retention: Retention = Field(default_factory=Retention, description="How long things are kept.")
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto", description="auto: text on a terminal, JSON lines elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is logged."
    )
    allow_plain_secrets: bool = Field(
        default=False, description="Accept secrets written into this file itself. For trials."
    )

    @property
    def listen_host(self) -> str:
        """Host part of `listen`."""
        found = split_host_port(self.listen)
        return found[0] if found else self.listen

    @property
    def listen_port(self) -> int:
        """Port part of `listen`."""
        found = split_host_port(self.listen)
        return found[1] if found and found[1] else 9465

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[Fault]:
        listen = split_host_port(str(given.get("listen", "127.0.0.1:9465")))
        if listen and not is_loopback(listen[0]) and "token" not in given:
            yield Fault(
                "listen", "listening beyond loopback without `agent.token`", "add `token: {env: NAME}`"
            )


class Resolver(Section):
    """The DNS resolver for everything."""

    nameservers: tuple[Nameserver, ...] = Field(
        default=(),
        description="IP addresses, with a port if not 53. Left out: the system's. "
        "Blocklists want a resolver of your own.",
    )
    timeout: Duration = Field(default=3.0, description="Longest wait for one question.")


class RouteGroup(Section):
    """Routes: each of the senders to each of the seeds."""

    senders: tuple[Name, ...] | None = Field(default=None, min_length=1, description="Left out: all.")
    seeds: tuple[Name, ...] | None = Field(default=None, min_length=1, description="Left out: all.")
    every: Duration = Field(
        default=900.0, description="One canary a route in this time, at a moment spread by jitter."
    )
    deadline: Duration = Field(default=600.0, description="Not seen by then: missing.")
    late_after: Duration = Field(
        default=259200.0, description="How long a missing canary is still watched for."
    )

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[Fault]:
        try:
            deadline = read_duration(given.get("deadline", 600.0))
            late_after = read_duration(given.get("late_after", 259200.0))
        except PydanticCustomError:
            return  # told by the fields
        if late_after < deadline:
            yield Fault(
                "late_after" if "late_after" in given else "deadline",
                "`late_after` is shorter than `deadline`",
                "a canary is missing at its deadline, and late only after it",
            )


class Limits(Section):
    """What keeps the agent gentle. A plan over these is refused."""

    per_seed_per_day: Annotated[int, Field(ge=1)] = Field(
        default=200, description="Most canaries a seed gets a day."
    )
    per_provider_per_minute: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Most canaries all seeds of one provider get a minute. Left out: the preset's pace.",
    )
    in_flight: Annotated[int, Field(ge=1)] = Field(
        default=16, description="Most SMTP sessions at the same time."
    )


class Subjects(Section):
    """What is looked up in blocklists."""

    ips: tuple[Network, ...] = Field(default=(), description="IP addresses and networks (CIDR).")
    domains: tuple[Domain, ...] = Field(default=(), description="Domains.")
    hosts: tuple[Domain, ...] = Field(default=(), description="Host names; their addresses are looked up.")
    spf: tuple[Domain, ...] = Field(
        default=(), description="Domains whose SPF record is expanded into its addresses."
    )
    from_senders: bool = Field(
        default=True,
        description="Also the senders' own source IPs, HELO, From, return-path and DKIM domains.",
    )


class Blocklists(Section):
    """Looking IPs and domains up in DNS blocklists."""

    subjects: Subjects = Field(default_factory=Subjects, description="What is looked up.")
    zones: tuple[Domain, ...] | None = Field(
        default=None,
        min_length=1,
        description="Only these zones. Left out: all the catalogue has switched on.",
    )
    skip_zones: tuple[Domain, ...] = Field(default=(), description="Zones to leave out.")
    keys: dict[Domain, Secret] = Field(
        default_factory=dict, description="Keys of zones that need one: zone -> key."
    )
    catalogue: FilePath | None = Field(
        default=None, description="Your own zones: a YAML file as the shipped one."
    )
    every: Duration = Field(default=3600.0, description="One sweep in this time.")


class Expected(Section):
    """A change of a record that is announced: recorded, not alerted."""

    name: Domain = Field(description="The record's name.", examples=["s2._domainkey.acme.example"])
    type: Literal["A", "AAAA", "MX", "TXT", "CNAME", "NS", "PTR", "TLSA", "CAA", "DS", "DNSKEY"] = Field(
        description="The record's type.", examples=["TXT"]
    )
    value: Line | None = Field(default=None, description="What it becomes. Left out: any change of it.")
    until: Instant | None = Field(
        default=None, description="Announced until then. Left out: until removed here."
    )


class Records(Section):
    """Watching the DNS records that mail depends on."""

    domains: tuple[Domain, ...] = Field(default=(), description="Domains to watch.")
    from_senders: bool = Field(default=True, description="Also the senders' own domains and hosts.")
    selectors: dict[Domain, tuple[Domain, ...]] = Field(
        default_factory=dict, description="DKIM selectors by domain, besides those seen in canaries."
    )
    every: Duration = Field(default=900.0, description="One look at each in this time.")
    contact: bool = Field(
        default=True,
        description="Also talk to mail exchangers (port 25, as far as STARTTLS), fetch policies and logos.",
    )
    ca_file: FilePath | None = Field(
        default=None, description="PEM file of a private CA for those, besides the system's."
    )
    allow_loopback: bool = Field(
        default=False, description="Fetch policies and logos from this machine too. For trials."
    )
    expected: tuple[Expected, ...] = Field(default=(), description="Announced changes.")
