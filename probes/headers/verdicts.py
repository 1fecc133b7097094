"""What the provider's filter said of a message, in one shape: where it put it, how it scored it, which rules
hit.

Microsoft's reports, Apple's, Proton's, GMX's and Zoho's marks, SpamAssassin, rspamd, Barracuda and a few
gateways. A score is not a placement: a message of SCL 9 lies in the inbox of one who listed its sender as
safe. Never raises; every pattern is linear in the size of the field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from probes.headers.meanings import CAT, COMPAUTH, DESTINATION, IPV, SFV

MAX_TEXT = 16 * 1024
MAX_RULES = 300

_NUMBER = re.compile(r"[-+]?\d{1,6}(?:\.\d{1,6})?")
_SA_SCORE = re.compile(r"\b(?:score|hits)=([-+]?\d{1,6}(?:\.\d{1,6})?)", re.IGNORECASE)
_SA_REQUIRED = re.compile(r"\b(?:required|tagged_above|KILL_LEVEL)=([-+]?\d{1,6}(?:\.\d{1,6})?)")
_SA_TESTS = re.compile(r"\btests=\[?(?=[^\]\s])")
_SA_TESTS_END = re.compile(r"\]|\s[a-z][a-z_-]*+=")
_SA_TEST = re.compile(r"([A-Za-z][A-Za-z0-9_]{2,80})(?:=([-+]?\d{1,4}(?:\.\d{1,4})?))?")
_SA_LINE = re.compile(r"(?:^|\s)\*?\s*([-+]?\d{1,3}\.\d{1,4}) ([A-Z][A-Z0-9_]{2,80})\b")
_HIT = re.compile(r"([A-Z][A-Z0-9_]{2,80}) ([-+]?\d{1,4}(?:\.\d{1,4})?)")
_RSPAMD = re.compile(r"\b(True|False) \[([-+]?\d{1,6}(?:\.\d+)?) / ([-+]?\d{1,6}(?:\.\d+)?)\]")
_RSPAMD_RULE = re.compile(r"\b([A-Z][A-Z0-9_]{1,80})\(([-+]?\d{1,4}(?:\.\d{1,4})?)\)")


class Rule(NamedTuple):
    """A filter rule that hit, and what it added to the score where that is told."""

    name: str
    score: float | None


class VerdictField(NamedTuple):
    """A field that may hold a verdict. trusted: it stands where only the provider can have written it."""

    name: str
    text: str
    trusted: bool


@dataclass(slots=True)
class ProviderVerdict:
    """One shape for them all.

    sources: the filters that spoke ("microsoft", "spamassassin"); placement: inbox, spam, other, or None
    where no field is the provider's own word on it; spam: what its filter thought, None where it did not
    say; scores: by name ("scl", "spamassassin"), with the limit as "..._required"; rules: what hit;
    evidence: each telling field with its meaning; trusted: all of it stands where only the provider can have
    written it.
    """

    sources: list[str] = field(default_factory=list)
    placement: str | None = None
    spam: bool | None = None
    scores: dict[str, float] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    trusted: bool = True

    def note(self, source: str, text: str) -> None:
        """Adds a piece of evidence by that filter."""
        if source not in self.sources:
            self.sources.append(source)
        if len(self.evidence) < 100:
            self.evidence.append(text)

    def place(self, placement: str) -> None:
        """The provider's own word on where it put the message; the first one counts."""
        if self.placement is None:
            self.placement = placement

    def judge(self, spam: bool) -> None:
        """What a filter thought; one that says spam outweighs one that does not."""
        self.spam = spam or bool(self.spam)

    def score(self, name: str, text: str) -> float | None:
        """Keeps the first number in `text` under that name; the first field of that name counts."""
        found = _NUMBER.search(text[:200])
        if found is None:
            return None
        return self.scores.setdefault(name, float(found[0]))


def decode_verdicts(fields: Iterable[VerdictField]) -> ProviderVerdict | None:
    """Puts all verdict fields (from the top down) into one shape; None where none says anything."""
    verdict = ProviderVerdict()
    for name, text, trusted in fields:
        reader = READERS.get(name)
        if reader is None:
            continue
        before = len(verdict.evidence)
        reader(verdict, name, text[:MAX_TEXT])
        if len(verdict.evidence) > before and not trusted:
            verdict.trusted = False
    return verdict if verdict.sources else None


def pairs(text: str) -> list[tuple[str, str]]:
    """Microsoft's `KEY:value;KEY:value;` lists: keys as written, "(null)" for an empty value."""
    found = []
    for part in text.replace("(null)", "").split(";"):
        key, colon, value = part.partition(":")
        if colon and key.strip():
            found.append((key.strip(), value.strip()))
    return found


def _forefront(verdict: ProviderVerdict, name: str, text: str) -> None:
    facts = {key.upper(): value for key, value in reversed(pairs(text))}
    if facts.get("DIR", "").upper() == "OUT":
        verdict.note(
            "microsoft", "X-Forefront-Antispam-Report with DIR:OUT is the sender's tenant's: left out"
        )
        return
    if facts.get("SCL"):
        scl = verdict.score("scl", facts["SCL"])
        verdict.note("microsoft", f"SCL {facts['SCL']}: spam confidence level, -1 bypassed, 5 and more spam")
        if scl is not None:
            verdict.judge(scl >= 5)
    for key, meanings in (("SFV", SFV), ("CAT", CAT), ("IPV", IPV)):
        value = facts.get(key, "").upper()
        if value and value != "NONE":
            verdict.note("microsoft", f"{key}:{value}: {meanings.get(value, 'not documented')}")
    if facts.get("SFV", "").upper() in ("SPM", "SKS", "SKB", "BLK"):
        verdict.judge(True)
    if facts.get("CIP"):
        verdict.note("microsoft", f"connecting IP {facts['CIP'][:45]}")


def _bulk(verdict: ProviderVerdict, name: str, text: str) -> None:
    for key, value in pairs(text):
        if key.upper() in ("BCL", "PCL") and value and verdict.score(key.lower(), value) is not None:
            what = "bulk complaint level" if key.upper() == "BCL" else "phishing confidence level"
            verdict.note("microsoft", f"{key.upper()} {value[:20]}: {what}, 0 to 9")


def _delivery(verdict: ProviderVerdict, name: str, text: str) -> None:
    for key, value in pairs(text):
        if key.lower() == "dest" and value:
            placement, meaning = DESTINATION.get(value.upper(), ("other", "another folder"))
            verdict.place(placement)
            verdict.note("microsoft", f"dest:{value[:20]}: {meaning}")
        elif key.upper() in ("OFR", "RF") and value:
            verdict.note("microsoft", f"{key}:{value[:80]}")


def _scl(verdict: ProviderVerdict, name: str, text: str) -> None:
    value = verdict.score(name.rpartition("-")[2], text)
    if value is not None:
        verdict.note("microsoft", f"{name.rpartition('-')[2].upper()} {value:g}")


def compauth(result: str, reason: str | None) -> str:
    """Composite authentication (Microsoft) in words."""
    digits = reason or ""
    meaning = COMPAUTH.get(digits) or COMPAUTH.get(f"{digits[:1]}xx", "not documented")
    return f"compauth={result} reason={digits}: {meaning}"


def _apple(verdict: ProviderVerdict, name: str, text: str) -> None:
    low = text.lower()
    verdict.note("apple", f"{name}: {text[:120]}")
    if name == "x-icl-score":
        verdict.score("icl", text)
    elif name == "x-suspected-spam":
        verdict.judge(low.strip() in ("true", "yes", "1"))
    else:
        verdict.place(_folder(low))


def _folder(low: str) -> str:
    if "junk" in low or "spam" in low:
        return "spam"
    return "inbox" if "inbox" in low else "other"


def _proton(verdict: ProviderVerdict, name: str, text: str) -> None:
    verdict.note("proton", f"{name}: {text[:120]}")
    if name == "x-pm-spamscore":
        verdict.score("proton", text)
        return
    action = text.strip().lower()
    spam = action in ("spam", "phishing")
    verdict.judge(spam)
    verdict.place("spam" if spam else ("inbox" if action == "inbox" else "other"))


def _gmx(verdict: ProviderVerdict, name: str, text: str) -> None:
    verdict.note("gmx", f"X-UI-Filterresults: {text[:80]}")
    kind = text.strip().lower().partition(":")[0]
    verdict.score("gmx", text.partition(":")[2][:12])
    if kind in ("junk", "notjunk"):
        verdict.judge(kind == "junk")
        verdict.place("spam" if kind == "junk" else "inbox")


def _zoho(verdict: ProviderVerdict, name: str, text: str) -> None:
    low = text.lower()
    verdict.note("zoho", f"{name}: {text[:120]}")
    if "spam" in low or "junk" in low:
        verdict.judge(not ("not" in low or "non" in low))


def _spam_status(verdict: ProviderVerdict, name: str, text: str) -> None:
    source = "barracuda" if "barracuda" in name else "spamassassin"
    score = _SA_SCORE.search(text)
    required = _SA_REQUIRED.search(text)
    tests = _tests(text)
    if score is not None:
        verdict.scores.setdefault(source, float(score[1]))
    if required is not None:
        verdict.scores.setdefault(f"{source}_required", float(required[1]))
    if tests.lower() != "none":
        _add_rules(verdict, _SA_TEST.findall(tests))
    word = text.strip()[:4].lower()
    if word.startswith(("yes", "no")):
        verdict.judge(word.startswith("yes"))
    verdict.note(source, f"{name}: {text[:160]}")


def _tests(text: str) -> str:
    """What stands behind `tests=`, up to the closing bracket or the next `word=`."""
    start = _SA_TESTS.search(text)
    if start is None:
        return ""
    end = _SA_TESTS_END.search(text, start.end())
    return text[start.end() : end.start() if end is not None else len(text)].strip()


def _spam_flag(verdict: ProviderVerdict, name: str, text: str) -> None:
    verdict.judge(text.strip().lower()[:3] in ("yes", "tru"))
    verdict.note("spamassassin" if name == "x-spam-flag" else "rspamd", f"{name}: {text[:40]}")


def _spam_report(verdict: ProviderVerdict, name: str, text: str) -> None:
    source = "barracuda" if "barracuda" in name else "spamassassin"
    _add_rules(verdict, [(rule, score) for score, rule in _SA_LINE.findall(text)])
    if verdict.rules:
        verdict.note(source, f"{name}: {text[:160]}")


def _spam_hits(verdict: ProviderVerdict, name: str, text: str) -> None:
    _add_rules(verdict, _HIT.findall(text))
    verdict.note("spamassassin", f"{name}: {text[:160]}")


def _rspamd_result(verdict: ProviderVerdict, name: str, text: str) -> None:
    found = _RSPAMD.search(text)
    if found is None:
        return
    verdict.scores.setdefault("rspamd", float(found[2]))
    verdict.scores.setdefault("rspamd_required", float(found[3]))
    verdict.judge(found[1] == "True")
    _add_rules(verdict, _RSPAMD_RULE.findall(text))
    verdict.note("rspamd", f"{name}: {text[:160]}")


def _rspamd_action(verdict: ProviderVerdict, name: str, text: str) -> None:
    verdict.note("rspamd", f"{name}: {text[:80]}")
    verdict.judge(text.strip().lower() in ("add header", "rewrite subject", "reject", "soft reject"))


def _plain_score(source: str) -> Callable[[ProviderVerdict, str, str], None]:
    def read(verdict: ProviderVerdict, name: str, text: str) -> None:
        if verdict.score(source, text) is not None:
            verdict.note(source, f"{name}: {text[:80]}")

    return read


def _text_only(source: str) -> Callable[[ProviderVerdict, str, str], None]:
    def read(verdict: ProviderVerdict, name: str, text: str) -> None:
        verdict.note(source, f"{name}: {text[:160]}")

    return read


def _add_rules(verdict: ProviderVerdict, found: Iterable[tuple[str, str]]) -> None:
    known = {rule.name for rule in verdict.rules}
    for name, score in found:
        if name not in known and len(verdict.rules) < MAX_RULES:
            known.add(name)
            verdict.rules.append(Rule(name, float(score) if score else None))


READERS: dict[str, Callable[[ProviderVerdict, str, str], None]] = {
    "x-forefront-antispam-report": _forefront,
    "x-microsoft-antispam": _bulk,
    "x-microsoft-antispam-mailbox-delivery": _delivery,
    "x-ms-exchange-organization-scl": _scl,
    "x-ms-exchange-organization-pcl": _scl,
    "x-apple-movetofolder": _apple,
    "x-apple-action": _apple,
    "x-icl-score": _apple,
    "x-suspected-spam": _apple,
    "x-pm-spamscore": _proton,
    "x-pm-spam-action": _proton,
    "x-ui-filterresults": _gmx,
    "x-zohomail-status": _zoho,
    "x-spam-status": _spam_status,
    "x-spam-flag": _spam_flag,
    "x-spam-report": _spam_report,
    "x-spam-hits": _spam_hits,
    "x-spam-score": _plain_score("spamassassin"),
    "x-spam": _spam_flag,
    "x-spamd-result": _rspamd_result,
    "x-spamd-bar": _text_only("rspamd"),
    "x-rspamd-score": _plain_score("rspamd"),
    "x-rspamd-action": _rspamd_action,
    "x-barracuda-spam-score": _plain_score("barracuda"),
    "x-barracuda-spam-status": _spam_status,
    "x-barracuda-spam-report": _spam_report,
    "x-mimecast-spam-score": _plain_score("mimecast"),
    "x-proofpoint-spam-details": _text_only("proofpoint"),
    "x-ironport-anti-spam-result": _text_only("ironport"),
    "x-yahoofilteredbulk": _text_only("yahoo"),
}
"""By field name, lower case. `X-Forefront-Antispam-Report-Untrusted` is left out on purpose."""

FIREWALLED = frozenset(
    name for name in READERS if name.startswith(("x-forefront", "x-microsoft", "x-ms-exchange"))
)
"""Microsoft writes these at the bottom, and takes incoming ones of these names away."""
