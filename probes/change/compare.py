"""Two canaries of one route, before and after a change: what is not as it was, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from probes.change.difference import Difference
from probes.change.facts import METHODS, Facts, Mark, signatures
from probes.outcome import Placement, Severity

GOOD_PLACES = frozenset({Placement.INBOX.value, Placement.TAB.value})
SCORE_STEP = 1.0
"""A spam score that rises by less is noise."""
SLOWER = 3.0
SLOWER_BY = 5.0
"""A canary that took so many times as long, and so many seconds more, is told as slow."""

_TLS = ("TLS1.0", "TLS1.1", "TLS1.2", "TLS1.3")
"""As the header's report spells them."""
_NOT_NOW = frozenset({"temperror", "ambiguous"})


def compare(before: Facts, after: Facts, keys: Mapping[str, str] | None = None) -> list[Difference]:
    """What differs, the worst and likeliest cause first.

    keys: the state of each DKIM key name at the time of `after` ("no-key", "found ..."), where looked up.
    """
    found = [*_placement(before, after), *_latency(before.latency, after.latency)]
    if before.seen and after.seen:
        found += _authentication(before, after, keys or {})
        found += [*_path(before, after), *_scores(before, after)]
    return sorted(found, key=lambda d: d.order)


def place(facts: Facts) -> str:
    """Where it landed, with the tab's category."""
    return f"{facts.placement} ({facts.category})" if facts.category else facts.placement


def _placement(before: Facts, after: Facts) -> Iterable[Difference]:
    old, new = place(before), place(after)
    if old == new or not new or new == Placement.UNKNOWN.value or old in ("", Placement.UNKNOWN.value):
        return
    # What is the seed's own fault, or could not be told, has the outcome unknown and never decides.
    worse = before.placement in GOOD_PLACES and after.outcome == "fail"
    severity = Severity.ERROR if worse else Severity.WARNING if after.placement == "tab" else Severity.INFO
    words = f"{old} -> {new}"
    if after.placement in ("rejected", "bounced", "deferred") and after.reply:
        what = after.reason or "reply"
        yield Difference(what, old, new, f"{words}: {after.reply}", severity)
        return
    yield Difference("placement", old, new, words, severity)


def _latency(before: float | None, after: float | None) -> Iterable[Difference]:
    if before is None or after is None or after < before * SLOWER or after < before + SLOWER_BY:
        return
    words = f"latency {before:.1f} s -> {after:.1f} s"
    yield Difference("latency", f"{before:.3f}", f"{after:.3f}", words, Severity.WARNING)


def _authentication(before: Facts, after: Facts, keys: Mapping[str, str]) -> Iterable[Difference]:
    if before.authentication and not after.authentication:
        # Some filters file a message without a look at it: nothing was said of SPF and DKIM, good or bad.
        words = "the provider told no authentication"
        yield Difference("authentication", "told", "not told", words, Severity.INFO)
        return
    for method in METHODS:
        yield from _method(method, before, after, keys)


def _method(method: str, before: Facts, after: Facts, keys: Mapping[str, str]) -> Iterable[Difference]:
    old, new = before.authentication.get(method), after.authentication.get(method)
    if old is None and new is None:
        return
    old, new = old or Mark("none"), new or Mark("none")
    if (old.result, old.domain, old.detail, old.aligned) == (new.result, new.domain, new.detail, new.aligned):
        return
    reason = _key_trouble(after, new, keys) if method == "dkim" and new.result != "pass" else ""
    left, right = _shown(old), _shown(new, reason)
    words = (
        f"{method} {left} -> {right}" if left != right else f"{method} aligned {old.aligned} -> {new.aligned}"
    )
    severity = _weight(method, old.result, new.result)
    fix = _fix(method, new, after, reason) if severity is Severity.ERROR else ""
    yield Difference(method, left, right, words, severity, fix)


def _weight(method: str, old: str, new: str) -> Severity:
    if old != "pass" or new == "pass":
        return Severity.INFO
    return Severity.WARNING if new in _NOT_NOW or method == "arc" else Severity.ERROR


def _shown(mark: Mark, reason: str = "") -> str:
    inside = ": ".join(part for part in (mark.detail, reason) if part)
    return f"{mark.result} ({inside})" if inside else mark.result


def key_names(facts: Facts) -> list[str]:
    """Where the keys of the message's DKIM signatures are published."""
    return [f"{s}._domainkey.{d}" for d, s in signatures(facts.header) if d and s]


def _key_trouble(after: Facts, mark: Mark, keys: Mapping[str, str]) -> str:
    names = key_names(after)
    if not names:
        return "not signed"
    states = [keys.get(name, "") for name in names if not mark.domain or name.endswith(mark.domain)]
    words = {"no-key": "no key", "key-revoked": "key revoked", "key-syntax": "key unreadable"}
    return next((words[state] for state in states if state in words), "")


def _fix(method: str, mark: Mark, after: Facts, reason: str) -> str:
    if method == "dkim":
        names = key_names(after)
        if not names:
            return f"the message bears no DKIM-Signature: switch signing on for {mark.domain or 'the domain'}"
        if reason:
            return f"publish {names[0]} with the key that is signed with"
        return (
            f"{names[0]} is not the key that is signed with, or something changes the message after signing"
        )
    if method == "spf":
        where = mark.domain or "the return path's domain"
        return f"allow {after.ip or 'the sending address'} in the SPF record of {where}"
    if method == "dmarc":
        return f"spf or dkim has to pass for {mark.domain or 'the author domain'} (aligned)"
    return ""


def _path(before: Facts, after: Facts) -> Iterable[Difference]:
    if before.encrypted and after.encrypted is False:
        fix = "see whether the sending side still uses STARTTLS, and whether the provider still offers it"
        yield Difference("tls", before.tls or "encrypted", "clear", "tls -> in clear", Severity.ERROR, fix)
    elif before.tls != after.tls and before.tls and after.tls:
        yield _tls_version(before.tls, after.tls)
    if before.ip != after.ip and after.ip:
        words = f"sending IP {before.ip or '?'} -> {after.ip}"
        yield Difference("ip", before.ip, after.ip, words, Severity.INFO)
    if before.helo != after.helo and after.helo:
        words = f"HELO {before.helo or '?'} -> {after.helo}"
        yield Difference("helo", before.helo, after.helo, words, Severity.WARNING)
    if before.hops != after.hops:
        words = f"path {_hops(before)} -> {_hops(after)}"
        yield Difference("hops", _hops(before), _hops(after), words, Severity.INFO)


def _tls_version(before: str, after: str) -> Difference:
    """TLS 1.0 and 1.1 must not be used any more (RFC 8996); a step down to 1.2 is told."""
    lower = _tls_rank(after) < _tls_rank(before)
    obsolete = lower and _tls_rank(after) < _tls_rank("TLS1.2")
    severity = Severity.ERROR if obsolete else Severity.WARNING if lower else Severity.INFO
    fix = "let the sending side use TLS 1.2 or newer again" if obsolete else ""
    return Difference("tls", before, after, f"tls {before} -> {after}", severity, fix)


def _tls_rank(version: str) -> int:
    return _TLS.index(version) if version in _TLS else len(_TLS)


def _hops(facts: Facts) -> str:
    return " < ".join(facts.hops) or "?"


def _scores(before: Facts, after: Facts) -> Iterable[Difference]:
    for name, new in after.scores.items():
        old = before.scores.get(name)
        if old is None or abs(new - old) < SCORE_STEP:
            continue
        hits = _new_rules(before, after)
        words = f"{name} score {old:g} -> {new:g}" + (f" ({', '.join(hits)})" if hits else "")
        bad = after.placement not in GOOD_PLACES and before.placement in GOOD_PLACES
        weight = Severity.ERROR if bad else Severity.WARNING
        fix = f"look at what {hits[0].partition(' ')[0]} is about" if hits and new > old else ""
        yield Difference("score", f"{old:g}", f"{new:g}", words, weight if new > old else Severity.INFO, fix)
        return


def _new_rules(before: Facts, after: Facts) -> list[str]:
    """Rules that hit anew, the heaviest first."""
    new = {name: score for name, score in after.rules.items() if name not in before.rules and score >= 0}
    heavy = sorted(new.items(), key=lambda item: -item[1])
    return [f"{name} {score:+g}" if score else name for name, score in heavy[:5]]
