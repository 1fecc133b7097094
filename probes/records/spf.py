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
class SpfSurvey:
    """A record's tree. tree: a line for each record, indented; lookups, voids: counted at most."""

    domain: str
    findings: list[Finding] = field(default_factory=list)
    tree: list[str] = field(default_factory=list)
    lookups: int = 0
    voids: int = 0
    seen: int = 0

    def add(
        self, kind: str, severity: Severity, name: str, what: str, why: str = _WHY, fix: str = ""
    ) -> None:
        """Notes a finding, once."""
        finding = Finding(kind, severity, name, what, why, fix)
        if finding not in self.findings:
            self.findings.append(finding)


async def survey_spf(domain: str, resolver: Resolver) -> SpfSurvey:
    """Walks the tree of a domain's SPF record."""
    survey = SpfSurvey(domain)
    await _walk(domain, resolver, survey, (), root=True)
    cured = f"name addresses (ip4:, ip6:) instead of includes, or drop services no longer used; {domain}. TXT"
    if survey.lookups > MAX_LOOKUPS:
        what = f"{survey.lookups} DNS look-ups, {MAX_LOOKUPS} are allowed"
        survey.add("spf-lookups", Severity.ERROR, domain, what, fix=cured)
    if survey.voids > MAX_VOIDS:
        what = f"{survey.voids} names that do not exist, {MAX_VOIDS} are allowed"
        survey.add("spf-voids", Severity.ERROR, domain, what, fix="take out the terms whose names are gone")
    return survey


async def _walk(
    domain: str, resolver: Resolver, survey: SpfSurvey, above: tuple[str, ...], root: bool
) -> None:
    survey.seen += 1
    if domain in above or len(above) > MAX_DEPTH or survey.seen > MAX_TREE:
        if domain in above:
            survey.add("spf-loop", Severity.ERROR, domain, f"{' > '.join((*above, domain))} includes itself")
        return
    record = await _record(domain, resolver, survey, root)
    if record is None:
        return
    survey.tree.append(f"{'  ' * len(above)}{domain}: {record.text}")
    _judge_end(domain, record, survey, root)
    for mechanism in record.mechanisms:
        if mechanism.name == "all":
            break  # what stands behind it is never looked at
        await _follow(mechanism, domain, resolver, survey, above)
    ended = any(m.name == "all" for m in record.mechanisms)
    if record.redirect is not None and not ended:
        survey.lookups += 1
        if record.redirect.plain is not None:
            await _walk(_plain(record.redirect), resolver, survey, (*above, domain), root)


async def _record(domain: str, resolver: Resolver, survey: SpfSurvey, root: bool) -> SpfRecord | None:
    answer = await resolver.query(domain, "TXT")
    if not answer.status.conclusive:
        survey.findings.append(could_not_look("spf-unknown", answer))
        return None
    records = [text for text in answer.records if is_spf(text)]
    if not records:
        _missing(domain, answer, survey, root)
        return None
    if len(records) > 1:
        fix = f'one record only: {domain}. TXT "{_merged(records)}"'
        survey.add("spf-several", Severity.ERROR, domain, f"{len(records)} SPF records", fix=fix)
        return None
    try:
        return parse_record(records[0])
    except SpfSyntaxError as error:
        survey.add("spf-syntax", Severity.ERROR, domain, f"cannot be read: {error}", fix="correct that term")
        return None


def _missing(domain: str, answer: DnsAnswer, survey: SpfSurvey, root: bool) -> None:
    if root:
        why = "Gmail, Yahoo and Microsoft want SPF of every sender"
        fix = f'{domain}. TXT "v=spf1 mx -all", with what else sends for the domain'
        survey.add("spf-missing", Severity.ERROR, domain, "no SPF record", why, fix)
    else:
        what = f"is included, but has no SPF record ({answer.status.value})"
        survey.add("spf-include", Severity.ERROR, domain, what, fix=f"take include:{domain} out")


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
    mechanism: Mechanism, domain: str, resolver: Resolver, survey: SpfSurvey, above: tuple[str, ...]
) -> None:
    if mechanism.name in _COUNTED:
        survey.lookups += 1
    if mechanism.name == "ptr":
        why = "RFC 7208 section 5.5: slow, unreliable, many receivers skip it"
        survey.add("spf-ptr", Severity.WARNING, domain, "uses ptr", why, "name the addresses instead")
        return
    target = mechanism.domain
    if target is not None and target.plain is None:
        return  # known only for a message
    name = _plain(target) if target is not None else domain
    if mechanism.name == "include":
        await _walk(name, resolver, survey, (*above, domain), root=False)
    elif mechanism.name in ("a", "mx", "exists"):
        rdtypes = {"mx": ("MX",), "exists": ("A",)}.get(mechanism.name, ("A", "AAAA"))
        answers = [await resolver.query(name, rdtype) for rdtype in rdtypes]
        silent = [a for a in answers if not a.status.conclusive]
        if silent:
            survey.findings.append(could_not_look("spf-unknown", silent[0]))
        elif not any(a.records for a in answers):
            survey.voids += 1


def _plain(target: MacroString) -> str:
    return (target.plain or "").rstrip(".").lower()
