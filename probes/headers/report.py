"""A header as evidence: what the seed's own provider says of a message, and how the message travelled.

An authentication verdict counts only from a field inside the provider's block that carries its authserv-id.
The topmost match counts; two that contradict each other on a method make that method ambiguous (DESIGN
section 2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from probes.headers.authres import (
    HALF_QUOTED,
    AuthenticationResults,
    MethodResult,
    parse_authentication_results,
    parse_received_spf,
)
from probes.headers.border import Block, find_block
from probes.headers.received import Hop, Timing, parse_received, timing
from probes.headers.scan import Field, Header, scan, unfold
from probes.headers.trust import COMMON_MARKS, TrustRule
from probes.headers.verdicts import FIREWALLED, READERS, ProviderVerdict, VerdictField, decode_verdicts

MAX_HOPS = 200
MAX_RESULTS_HEADERS = 100
MAX_RESULTS_BYTES = 96 * 1024

_KINDS = {
    "received": "hop",
    "received-spf": "results",
    "authentication-results": "results",
    "arc-authentication-results": "results",
} | dict.fromkeys((*READERS, *(mark.header for mark in COMMON_MARKS)), "filter")
"""What fields are read for, by their name."""
_NONE: frozenset[str] = frozenset()
_new = tuple.__new__  # what NamedTuple's constructor does, at half its cost
_CROSS_CHECKED = frozenset(("spf", "dkim", "dmarc"))


class ResultsHeader(NamedTuple):
    """One field with results. header: its name, lower case; position: among the fields; trusted: the provider
    wrote it; why: in words, when it is not trusted; ambiguous: methods on which trusted ones contradict each
    other."""

    header: str
    position: int
    results: AuthenticationResults
    trusted: bool
    why: str
    ambiguous: frozenset[str]


class MethodVerdict(NamedTuple):
    """What the provider says of one method. result: the topmost; ambiguous: another of its fields
    contradicts it, so that it must be taken as unknown; detail: the result with its properties; header:
    where it stands."""

    method: str
    result: str
    ambiguous: bool
    detail: MethodResult
    header: str

    @property
    def settled(self) -> str | None:
        """The result, or None where it is ambiguous."""
        return None if self.ambiguous else self.result


@dataclass(slots=True)
class HeaderReport:
    """All that a header says.

    fields: as they stand; block: the provider's part; results: every field with authentication results,
    trusted or not; authentication: the provider's verdict by method, nothing else ever gets in there; hops:
    newest first; timing: delays, skew, the slow hop and those in clear; contamination: why a result of this
    seed is void; filters: where the fields stand that filters write; cut: a cap was reached and the rest was
    not read.
    """

    fields: list[Field]
    block: Block
    results: list[ResultsHeader]
    authentication: dict[str, MethodVerdict]
    hops: list[Hop]
    timing: Timing
    contamination: tuple[str, ...]
    filters: list[int]
    cut: bool
    body: int
    trust: TrustRule

    @property
    def border(self) -> Hop | None:
        """The hop by which the message came in from outside, as the provider saw it."""
        return None if self.block.hop is None else self.hops[self.block.hop]

    @property
    def verdict(self) -> ProviderVerdict | None:
        """What the provider's filter said. Fields that the message may have brought along (many filters
        append theirs at the bottom) are read where no trusted one of that name is there: the verdict then
        says that it is not trusted, and tells no placement unless there is no border at all (a fragment of a
        header)."""
        if not self.filters:
            return None
        fields = list(self._verdict_fields())
        known = {item.name for item in fields if item.trusted}
        found = decode_verdicts(item for item in fields if item.trusted or item.name not in known)
        if found is not None and not found.trusted and self.block.border is not None:
            placed = decode_verdicts(item for item in fields if item.trusted)
            found.placement = placed.placement if placed is not None else None
        return found

    def _verdict_fields(self) -> Iterable[VerdictField]:
        anywhere = self.trust.verdicts_anywhere
        for index in self.filters:
            item = self.fields[index]
            held = self.block.holds(index) or (anywhere and item.name in FIREWALLED)
            yield VerdictField(item.name, item.text, held)

    def first(self, name: str) -> str | None:
        """The text of the topmost field of that name (lower case), or None."""
        for item in self.fields:
            if item.name == name:
                return item.text
        return None


def read_headers(raw: bytes, trust: TrustRule) -> HeaderReport:
    """Reads the header of a message, or a header alone. Linear time, never raises, looks at no body."""
    return read_fields(scan(raw), trust)


def read_fields(header: Header, trust: TrustRule) -> HeaderReport:
    """The same for a header that was split already, so that several trust rules can be tried on it."""
    fields = header.fields
    hops: list[tuple[int, Hop]] = []
    told: list[int] = []
    filters: list[int] = []
    kinds = _KINDS
    for index, (name, raw) in enumerate(fields):
        kind = kinds.get(name)
        if kind is None:
            continue
        if kind == "filter":
            filters.append(index)
        elif kind == "results":
            told.append(index)
        elif len(hops) < MAX_HOPS:
            hops.append((index, parse_received(raw)))
    block = find_block(fields, hops, trust)
    results = _read_results(fields, told, block, trust)
    authentication = _authentication(results)
    for verdict in authentication.values():
        if verdict.ambiguous:
            results = [_mark(item, authentication) for item in results]
            break
    path = [hop for _, hop in hops]
    return HeaderReport(
        fields,
        block,
        results,
        authentication,
        path,
        timing(path),
        _contamination(fields, filters, block, trust),
        filters,
        header.cut,
        header.body,
        trust,
    )


def _read_results(
    fields: list[Field], told: list[int], block: Block, trust: TrustRule
) -> list[ResultsHeader]:
    found: list[ResultsHeader] = []
    budget = MAX_RESULTS_BYTES
    seen: dict[bytes, AuthenticationResults] = {}
    for index in reversed(told[:MAX_RESULTS_HEADERS]):
        name, raw = fields[index]
        budget -= len(raw)
        if budget < 0:
            break
        results = _parse(name, raw, seen)
        why = _distrust(name, index, results, block, trust)
        found.append(_new(ResultsHeader, (name, index, results, not why, why, _NONE)))
    found.reverse()
    return _without_second_place(found, block)


def _without_second_place(results: list[ResultsHeader], block: Block) -> list[ResultsHeader]:
    """A provider that writes its Authentication-Results above the border writes no results below it: what
    stands there was brought along."""
    border = -1 if block.border is None else block.border
    for item in results:
        if item.position >= border:
            return results
        if item.trusted and item.header == "authentication-results":
            break
    else:
        return results
    why = "the provider has written its own above the border"
    return [
        item._replace(trusted=False, why=why) if item.trusted and item.position > border else item
        for item in results
    ]


def _parse(name: str, raw: bytes, seen: dict[bytes, AuthenticationResults]) -> AuthenticationResults:
    """Reads one field; an ARC copy is often word for word the Authentication-Results below it."""
    if name == "received-spf":
        spf = parse_received_spf(unfold(raw))
        receiver = (spf.get("receiver") if spf is not None else None) or ""
        return _new(AuthenticationResults, (receiver, 1, (spf,) if spf is not None else (), (), (), None))
    if name == "authentication-results":
        results = seen[raw.strip()] = parse_authentication_results(unfold(raw))
        return results
    told, _, rest = raw.partition(b";")
    copy = seen.get(rest.strip())
    instance = _INSTANCE.fullmatch(told) if copy is not None else None
    if copy is not None and instance is not None:
        return _new(AuthenticationResults, (*copy[:5], int(instance[1])))
    return parse_authentication_results(unfold(raw), arc=True)


_INSTANCE = re.compile(rb"\s*+i=(\d{1,3})\s*+")


def _distrust(name: str, index: int, results: AuthenticationResults, block: Block, trust: TrustRule) -> str:
    """Why this field does not count; "" where it does."""
    if block.border is None:
        return block.why
    if not block.holds(index):
        return "it stands below what the provider writes: the message brought it along"
    if name == "received-spf":
        return ""
    if trust.only_below and name == "authentication-results" and index < block.border:
        return "the provider writes its own below the border Received, not above it"
    if not trust.owns(results.authserv_id):
        return f"authserv-id {results.authserv_id[:80]!r} is not the provider's"
    return ""


def _authentication(results: list[ResultsHeader]) -> dict[str, MethodVerdict]:
    """The topmost trusted Authentication-Results on each method; Received-SPF and the provider's own ARC
    copy only where it has none, and as a second opinion."""
    verdicts: dict[str, MethodVerdict] = {}
    later: list[ResultsHeader] = []
    taken: list[tuple[MethodResult, ...]] = []
    for item in results:
        if not item.trusted:
            continue
        if item.header == "authentication-results":
            taken.append(item.results.methods)
            _take(verdicts, item, item.header)
        else:
            later.append(item)
    later.sort(key=_rank)
    for item in later:
        if item.results.methods not in taken:  # an ARC copy word for word says nothing new
            _take(verdicts, item, item.header)
    if _groundless(verdicts):
        verdicts["dmarc"] = verdicts["dmarc"]._replace(ambiguous=True)
    return verdicts


def _rank(item: ResultsHeader) -> str:
    return item.header


def _groundless(verdicts: dict[str, MethodVerdict]) -> bool:
    """Whether DMARC passes though the provider tells of SPF and neither it nor DKIM passes: DMARC rests on
    one of the two (RFC 9989 section 4.4), so the provider contradicts itself. One whose filter believes what
    a message brings along (OpenDMARC, trusting an authserv-id that nobody strips) is fooled so."""
    dmarc, spf = verdicts.get("dmarc"), verdicts.get("spf")
    if dmarc is None or dmarc.result != "pass" or spf is None:
        return False
    dkim = verdicts.get("dkim")
    return spf.settled != "pass" and (dkim is None or dkim.settled != "pass")


def _take(verdicts: dict[str, MethodVerdict], item: ResultsHeader, rank: str) -> None:
    doubtful = HALF_QUOTED in item.results.defects
    found, contradicted = _by_method(item.results.methods)
    for method, chosen in found.items():
        known = verdicts.get(method)
        if known is None:
            doubt = doubtful or method in contradicted
            verdicts[method] = _new(MethodVerdict, (method, chosen.result, doubt, chosen, item.header))
        elif known.result != chosen.result and _comparable(method, rank, chosen):
            verdicts[method] = known._replace(ambiguous=True)


def _comparable(method: str, rank: str, second: MethodResult) -> bool:
    """Whether a second opinion speaks of the same thing. Received-SPF may be about the HELO identity; an ARC
    copy may hold a local `arc` result of its own."""
    if rank == "received-spf":
        return (second.get("identity") or "mailfrom").lower() == "mailfrom"
    return rank == "authentication-results" or method in _CROSS_CHECKED


def _by_method(methods: tuple[MethodResult, ...]) -> tuple[dict[str, MethodResult], frozenset[str]]:
    """Per method of one field: the result that stands for it; then those on which the field contradicts
    itself.

    Several DKIM results are several signatures: one that passes is a pass (RFC 6376 section 6.1). Of several
    SPF results the one on MAIL FROM counts.
    """
    found: dict[str, MethodResult] = {}
    repeated: list[str] = []
    for item in methods:
        method = item.method
        known = found.setdefault(method, item)
        if known is item:
            continue
        if method != "dkim":
            repeated.append(method)
        elif item.result == "pass" != known.result:
            found[method] = item
    if not repeated:
        return found, _NONE
    contradicted: list[str] = []
    for method in set(repeated):
        group = [item for item in methods if item.method == method]
        if method == "spf":
            group = [item for item in group if item.get("smtp.mailfrom") is not None] or group
        found[method] = group[0]
        if len({item.result for item in group}) > 1:
            contradicted.append(method)
    return found, frozenset(contradicted)


def _mark(item: ResultsHeader, authentication: dict[str, MethodVerdict]) -> ResultsHeader:
    if not item.trusted:
        return item
    doubtful = frozenset(
        result.method for result in item.results.methods if authentication[result.method].ambiguous
    )
    return item._replace(ambiguous=doubtful) if doubtful else item


def _contamination(
    fields: list[Field], filters: list[int], block: Block, trust: TrustRule
) -> tuple[str, ...]:
    """Marks that the seed skipped filtering, where the provider can have set them; all of them without a
    border. filters: where the fields of COMMON_MARKS stand, among others."""
    marks, places = COMMON_MARKS, filters
    if trust.contamination:
        marks += trust.contamination
        names = {mark.header for mark in marks}
        places = [index for index, item in enumerate(fields) if item.name in names]
    found: list[str] = []
    for index in places:
        item = fields[index]
        name = item.name
        anywhere = block.border is None or (trust.verdicts_anywhere and name in FIREWALLED)
        if not (anywhere or block.holds(index)):
            continue
        text = item.text.lower()
        if name == "x-forefront-antispam-report" and "dir:out" in text:
            continue
        found.extend(mark.meaning for mark in marks if mark.header == name and mark.contains in text)
    return tuple(dict.fromkeys(found))
