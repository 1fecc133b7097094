"""What each resolver says of one listing. Pure.

Resolvers may disagree: a list answers one and refuses another, or somebody rewrites answers. Their words are
kept side by side. A listing goes on as long as one of them sees it; that it was looked up through another
one is no delisting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from probes.blocklists.check import Listing
from probes.outcome import Severity

HOLDS = 86_400.0
"""Seconds for which a resolver's word counts at least where it could not be asked again and another says
otherwise: so long an answer is believed at most."""

SWEEPS = 3
"""Sweeps for which it counts at least."""


@dataclass(frozen=True, slots=True)
class View:
    """One resolver's word. listed, codes, severity, at: the last it could tell, and when; None, 0.0 where it
    never could. reason: what came of it when it was asked last, at asked_at."""

    listed: bool | None
    at: float
    asked_at: float
    reason: str
    codes: tuple[str, ...] = ()
    severity: str = Severity.INFO.value

    @property
    def says(self) -> bool | None:
        """What it says now; None where it could not tell when it was asked last."""
        return self.listed if self.at >= self.asked_at else None

    def words(self) -> str:
        """For people."""
        if self.says is None and self.listed is not None:
            return f"{'listed' if self.listed else 'not listed'} before, now {self.reason}"
        return {True: "listed", False: "not listed", None: self.reason}[self.says]


Views = Mapping[str, View]
"""By resolver."""


def views_of(found: Mapping[str, Any] | None) -> dict[str, View]:
    """From the store; a row of an earlier version has none."""
    return {name: View(**{**one, "codes": tuple(one["codes"])}) for name, one in (found or {}).items()}


def to_json(views: Views) -> dict[str, Any]:
    """For the store."""
    return {name: asdict(view) for name, view in views.items()}


def heard(views: Views, resolver: str, listing: Listing, now: float, every: float) -> dict[str, View]:
    """The views with what a resolver says now; those that count no more are left out."""
    known = views.get(resolver)
    if listing.listed is None:
        before = known or View(None, 0.0, now, "")
        mine = replace(before, asked_at=now, reason=listing.reason.value)
    else:
        mine = View(listing.listed, now, now, listing.reason.value, listing.codes, listing.severity.value)
    fresh = {name: view for name, view in views.items() if view.asked_at >= now - _life(every)}
    return fresh | {resolver: mine}


def stands(views: Views, now: float, every: float) -> bool:
    """Whether a listing goes on: somebody sees it, or nobody can tell."""
    if any(view.listed and view.at >= now - _life(every) for view in views.values()):
        return True
    return not any(view.listed is False for view in views.values())


def _life(every: float) -> float:
    return max(HOLDS, SWEEPS * every)


def differ(views: Views) -> bool:
    """Whether the resolvers disagree: one sees the listing, and another does not, or cannot tell."""
    return len({view.says for view in views.values()}) > 1


def words(views: Views) -> str:
    """Who says what, those first that see it; "" where all say the same."""
    if not differ(views):
        return ""
    order = sorted(views.items(), key=lambda item: (item[1].says is not True, item[0]))
    return "; ".join(f"{view.words()} through {name}" for name, view in order)


def worst(views: Views, *, but: str) -> int:
    """The rank of the gravest word of the other resolvers that see it; -1 where none does."""
    others = (view for name, view in views.items() if name != but and view.listed)
    return max((Severity(view.severity).rank for view in others), default=-1)
