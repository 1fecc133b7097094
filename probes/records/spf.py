"""The SPF record as published: its whole tree, counted as a receiver counts (RFC 7208 section 4.6.4)."""

from __future__ import annotations

from dataclasses import dataclass, field

from probes.authentication.spf_macro import MacroString
from probes.authentication.spf_record import Mechanism, SpfRecord, SpfSyntaxError, is_spf, parse_record
from probes.dns import DnsAnswer, Resolver
from probes.outcome import Severity
from probes.records.finding import Finding, could_not_look

MAX_LOOKUPS, MAX_VOIDS = 10, 2
MAX_DEPTH = 10
MAX_TREE = 60  # records read at most, of a tree that is far over its limit anyway

_COUNTED = frozenset({"include", "a", "mx", "ptr", "exists"})
_WHY = "receivers end with permerror: SPF then passes for nobody, and DMARC with it"


@dataclass(slots=True)
class SpfTerm:
    """A term that asks DNS, or the root. text: the term; record: found behind it; note: what is odd."""

    text: str
    record: str = ""
    note: str = ""
    children: list[SpfTerm] = field(default_factory=list)

    @property
    def cost(self) -> int:
        """Look-ups of the term itself and of all below it."""
        return 1 + sum(child.cost for child in self.children)

    def draw(self, before: str = "") -> list[str]:
        """The terms below this one, as a tree in lines."""
        lines = []
        for index, child in enumerate(self.children):
            last = index + 1 == len(self.children)
            note = f"  <- {child.note}" if child.note else ""
            lines.append(f"{before}{'└─ ' if last else '├─ '}{child.text} ({child.cost}){note}")
            lines += child.draw(before + ("   " if last else "│  "))
        return lines

    def to_json(self) -> dict[str, object]:
        """JSON-ready."""
        children = [child.to_json() for child in self.children]
        return {"term": self.text, "record": self.record, "note": self.note, "children": children}


@dataclass(slots=True)
class SpfSurvey:
    """A record's tree. lookups, voids: counted at most, as a receiver would."""

    domain: str
    root: SpfTerm
    findings: list[Finding] = field(default_factory=list)
    lookups: int = 0
    voids: int = 0
    seen: int = 0
    records: dict[str, str] = field(default_factory=dict)  # of every domain that was read

    @property
    def usable(self) -> bool:
        """Whether there is a record that can be evaluated."""
        return bool(self.root.record)

    def draw(self) -> list[str]:
        """The tree, for people: the record, then each term that asks DNS with its look-ups."""
        return [f"{self.domain}: {self.root.record}", *self.root.draw()] if self.root.record else []

    def add(
        self, code: str, severity: Severity, name: str, what: str, why: str = _WHY, fix: str = ""
    ) -> None:
        """Notes a finding, once."""
        finding = Finding(code, severity, name, what, why, fix)
        if finding not in self.findings:
            self.findings.append(finding)


async def survey_spf(domain: str, resolver: Resolver) -> SpfSurvey:
    """Walks the tree of a domain's SPF record."""
    survey = SpfSurvey(domain, SpfTerm(domain))
    await _walk(domain, resolver, survey, (), survey.root)
    if survey.lookups > MAX_LOOKUPS:
        what = f"{survey.lookups} DNS look-ups, {MAX_LOOKUPS} are allowed"
        dear = sorted(survey.root.children, key=lambda term: -term.cost)[:3]
        cured = "take out services no longer used, or name their addresses (ip4:, ip6:) instead; most cost "
        cured += ", ".join(f"{term.text} ({term.cost})" for term in dear)
        survey.add("spf-lookups", Severity.ERROR, domain, what, fix=cured)
    if survey.voids > MAX_VOIDS:
        what = f"{survey.voids} names that do not exist, {MAX_VOIDS} are allowed"
        survey.add("spf-voids", Severity.ERROR, domain, what, fix="take out the terms whose names are gone")
    return survey


async def _walk(
    domain: str, resolver: Resolver, survey: SpfSurvey, above: tuple[str, ...], term: SpfTerm
) -> None:
    survey.seen += 1
    if domain in above or len(above) > MAX_DEPTH or survey.seen > MAX_TREE:
        term.note = "a loop" if domain in above else "not followed any further"
        if domain in above:
            path, fix = " > ".join((*above, domain)), _without(domain, above[-1], survey)
            survey.add("spf-loop", Severity.ERROR, domain, f"{path} includes itself", fix=fix)
        return
    root = term is survey.root
    record = await _record(domain, resolver, survey, above, term)
    if record is None:
        return
    term.record = survey.records[domain] = record.text
    _judge_end(domain, record, survey, root)
    for mechanism in record.mechanisms:
        if mechanism.name == "all":
            break  # what stands behind it is never looked at
        await _follow(mechanism, domain, resolver, survey, above, term)
    ended = any(m.name == "all" for m in record.mechanisms)
    if record.redirect is not None and not ended:
        survey.lookups += 1
        child = SpfTerm(f"redirect={_plain(record.redirect) or '(a macro)'}")
        term.children.append(child)
        if record.redirect.plain is not None:
            await _walk(_plain(record.redirect), resolver, survey, (*above, domain), child)


async def _record(
    domain: str, resolver: Resolver, survey: SpfSurvey, above: tuple[str, ...], term: SpfTerm
) -> SpfRecord | None:
    answer = await resolver.query(domain, "TXT")
    if not answer.status.conclusive:
        term.note = answer.status.value
        survey.findings.append(could_not_look("spf-unknown", answer))
        return None
    records = sorted(text for text in answer.records if is_spf(text))
    if not records:
        term.note = "no SPF record"
        _missing(domain, answer, survey, above)
        return None
    if len(records) > 1:
        fix = f'one record only: {domain}. TXT "{_merged(records)}"'
        survey.add("spf-several", Severity.ERROR, domain, f"{len(records)} SPF records", fix=fix)
        return None
    try:
        return parse_record(records[0])
    except SpfSyntaxError as error:
        text = f"cannot be read: {error}"
        survey.add("spf-syntax", Severity.ERROR, domain, text, fix=f"correct that term: {records[0][:300]}")
        return None


def _missing(domain: str, answer: DnsAnswer, survey: SpfSurvey, above: tuple[str, ...]) -> None:
    if not above:
        why = "Gmail, Yahoo and Microsoft want SPF of every sender"
        fix = f'{domain}. TXT "v=spf1 mx -all", with what else sends for the domain'
        survey.add("spf-missing", Severity.ERROR, domain, "no SPF record", why, fix)
    else:
        what = f"is included, but has no SPF record ({answer.status.value})"
        survey.add("spf-include", Severity.ERROR, domain, what, fix=_without(domain, above[-1], survey))


def _without(domain: str, parent: str, survey: SpfSurvey) -> str:
    """The parent's record without the terms that lead to a domain."""
    dropped = (f"include:{domain}", f"redirect={domain}")
    terms = survey.records[parent].split()
    kept = [term for term in terms if term.lower().lstrip("+-~?").rstrip(".") not in dropped]
    gone = [term for term in terms if term not in kept] or [f"include:{domain}"]
    return f'take {" ".join(gone)} out: {parent}. TXT "{" ".join(kept)}"'


def _merged(records: list[str]) -> str:
    """One record of several: their terms in order, the strictest end."""
    terms = dict.fromkeys(t for r in records for t in r.split()[1:] if t.lower().lstrip("+-~?") != "all")
    end = "-all" if any("-all" in r.split() for r in records) else "~all"
    return " ".join(["v=spf1", *terms, end])


def _judge_end(domain: str, record: SpfRecord, survey: SpfSurvey, root: bool) -> None:
    final = next((m for m in record.mechanisms if m.name == "all"), None)
    body = " ".join(term for term in record.text.split() if term.lower().lstrip("+-~?") != "all")
    fix = f'{domain}. TXT "{body} -all"'
    if final is not None and final.result == "pass":
        why = "anybody may send in the domain's name"
        severity = Severity.CRITICAL if root else Severity.ERROR
        survey.add("spf-all", severity, domain, f"{final.text} lets the whole world send", why, fix)
    elif root and final is None and record.redirect is None:
        survey.add("spf-open", Severity.WARNING, domain, "no `all` at the end", "strangers get neutral", fix)
    elif root and final is not None and final.result == "neutral":
        survey.add(
            "spf-open", Severity.WARNING, domain, "?all says nothing of strangers", "no protection", fix
        )


async def _follow(
    mechanism: Mechanism,
    domain: str,
    resolver: Resolver,
    survey: SpfSurvey,
    above: tuple[str, ...],
    term: SpfTerm,
) -> None:
    if mechanism.name not in _COUNTED:
        return
    survey.lookups += 1
    child = SpfTerm(mechanism.text)
    term.children.append(child)
    if mechanism.name == "ptr":
        why = "RFC 7208 section 5.5: slow, unreliable, many receivers skip it"
        survey.add("spf-ptr", Severity.WARNING, domain, "uses ptr", why, "name the addresses instead")
        return
    target = mechanism.domain
    if target is not None and target.plain is None:
        return  # known only for a message
    name = _plain(target) if target is not None else domain
    if mechanism.name == "include":
        await _walk(name, resolver, survey, (*above, domain), child)
    elif mechanism.name in ("a", "mx", "exists"):
        rdtypes = {"mx": ("MX",), "exists": ("A",)}.get(mechanism.name, ("A", "AAAA"))
        answers = [await resolver.query(name, rdtype) for rdtype in rdtypes]
        silent = [a for a in answers if not a.status.conclusive]
        if silent:
            survey.findings.append(could_not_look("spf-unknown", silent[0]))
        elif not any(a.records for a in answers):
            survey.voids += 1
            child.note = "nothing there"


def _plain(target: MacroString) -> str:
    return (target.plain or "").rstrip(".").lower()
