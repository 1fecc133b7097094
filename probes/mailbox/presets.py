"""What is known of the providers of seed mailboxes, as data: presets.yaml, each with its source and date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from probes.errors import ConfigError
from probes.headers.trust import ContaminationMark, TrustRule
from probes.mailbox.access import Security

_LISTS = ("authserv_ids", "border", "internal", "below_names")
_PLAIN = ("below_border", "border_repeats", "only_below", "verdicts_anywhere")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the provider takes. per_minute, per_day: canaries to all and to one seed; connections: at
    once to one mailbox (the reader uses one); noops_per_window, noops_per_hour: caps of NOOP bursts on one
    mailbox."""

    per_minute: int
    per_day: int
    connections: int
    noops_per_window: int = 0
    noops_per_hour: int = 0


@dataclass(frozen=True, slots=True)
class Preset:
    """One provider. host: None where it is the user's own. username: "address" or "local-part" of it.
    auth: ways to log in, best first (xoauth2, oauthbearer, app-password, password). oauth: "google",
    "microsoft" or None. junk: names of the junk folder as people read them. junk_required: the folder
    always exists, so that its absence means it is hidden from IMAP. idle: whether IDLE is used where
    announced. poll_seconds: between looks at folders that IDLE does not watch. pipelining: whether the
    server is known to take commands back to back. notes: what the user has to know."""

    name: str
    title: str
    source: str
    date: str
    host: str | None
    port: int
    security: Security
    username: str
    auth: tuple[str, ...]
    oauth: str | None
    junk: tuple[str, ...]
    junk_required: bool
    idle: bool
    poll_seconds: float
    noop_bursts: bool
    pipelining: bool
    tabs: bool
    trust: TrustRule
    limits: Limits
    notes: str = ""

    def login_name(self, address: str) -> str:
        """The user name that belongs to an address."""
        return address.rpartition("@")[0] if self.username == "local-part" and "@" in address else address


@cache
def presets() -> Mapping[str, Preset]:
    """All presets by name."""
    text = files("probes.mailbox").joinpath("presets.yaml").read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    defaults: dict[str, Any] = data["defaults"]
    return {name: _preset(name, defaults | values) for name, values in data["presets"].items()}


def preset(name: str) -> Preset:
    """One preset; ConfigError names those there are."""
    found = presets().get(name)
    if found is None:
        raise ConfigError(f"no provider preset {name!r}; there are: {', '.join(presets())}")
    return found


def _preset(name: str, values: dict[str, Any]) -> Preset:
    values = dict(values)
    title = values.pop("title")
    return Preset(
        name=name,
        title=title,
        security=Security(values.pop("security")),
        auth=tuple(values.pop("auth")),
        junk=tuple(values.pop("junk")),
        trust=_trust(title, values.pop("trust")),
        limits=Limits(**values.pop("limits")),
        date=str(values.pop("date")),
        poll_seconds=float(values.pop("poll_seconds")),
        **values,
    )


def _trust(title: str, values: dict[str, Any]) -> TrustRule:
    marks = tuple(ContaminationMark(**mark) for mark in values.get("contamination", ()))
    lists = {key: tuple(values[key]) for key in _LISTS if key in values}
    plain = {
        key: values[key]
        for key in ("below_border", "border_repeats", "only_below", "verdicts_anywhere")
        if key in values
    }
    facts: dict[str, Any] = lists | plain
    return TrustRule(name=title, contamination=marks, **facts)
