"""Authentication-Results: four public sets of headers and what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from probes.headers.authres import AuthenticationResults, parse_authentication_results
from probes.headers.received import parse_received
from probes.headers.scan import scan, unfold
from tests.conformance.row import Row
from tests.conformance.tally import RIGHT, tally

#: Strict cases of the set that this project reads otherwise, each with the line that makes it right.
STRICT = {
    "dkim=Pass": "RFC 5234 section 2.3: literal strings of ABNF are without case",
    "header.b=gfT/i2HB": "RFC 2045 section 5.1 wants it quoted; providers do not",
    "policy.authority-uri=": "the same; Fastmail writes it so",
    "header.i=Blo": "RFC 6532 section 3.2: UTF-8 is text, quoted or not",
}


def run(corpus: Path) -> Iterable[Row]:
    """Runs the four sets."""
    folder = corpus / "authres"
    yield _verifier(folder / "dkim_verifier_arh.json", tolerant=True)
    yield _verifier(folder / "dkim_verifier_arh.json", tolerant=False)
    yield _doctest(folder / "authres_doctest.json")
    yield _mox(folder / "mox_authres.json")
    yield _mailauth(folder / "mailauth_parse.json")


def _load(path: Path) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return cases


def _octets(text: str) -> bytes:
    """The recorder wrote octets as characters below 256; what is above is text."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8")


def _text(text: str) -> str:
    return " ".join(unfold(_octets(text)).split(" "))


def _parse(header: str) -> AuthenticationResults:
    field = scan(_octets(header)).fields[0]
    return parse_authentication_results(field.text, arc=field.name.startswith("arc-"))


def _verifier(path: Path, *, tolerant: bool) -> Row:
    faults = []
    for case in _load(path):
        if (case["relaxedParsing"] or case["internationalized"]) != tolerant:
            continue
        faults.append((case["header"].strip()[:60], _verifier_fault(case)))
    return tally(f"authres/dkim_verifier_arh ({'relaxed, international' if tolerant else 'strict'})", faults)


def _verifier_fault(case: dict[str, Any]) -> str:
    found = _parse(case["header"])
    if case["outcome"] == "parse_error":
        right = next((why for mark, why in STRICT.items() if mark in case["header"]), None)
        if found.defects:
            return ""
        return "read without a defect" if right is None else f"{RIGHT}{right}"
    wanted = case["parsed"]
    if found.authserv_id != _text(wanted["authserv_id"]) or found.version != wanted["authres_version"]:
        return f"authserv-id {found.authserv_id!r} {found.version}"
    results = [_shape(one) for one in wanted["resinfo"]]
    ours = [
        (
            one.method,
            one.version,
            one.result,
            one.reason,
            sorted((p.type, p.name, p.value) for p in one.properties if p.type),
        )
        for one in found.methods
        if one.result != "none" or one.properties or any(one.method == r[0] for r in results)
    ]
    return "" if ours == results else f"{ours} instead of {results}"


def _shape(one: dict[str, Any]) -> tuple[Any, ...]:
    properties = sorted(
        (kind, name, _text(value))
        for kind, group in one["properties"].items()
        for name, value in group.items()
    )
    reason = one.get("reason")
    return (
        one["method"],
        one["method_version"],
        one["result"].lower(),
        _text(reason) if reason is not None else None,
        properties,
    )


def _doctest(path: Path) -> Row:
    faults = [(case["header"][:60], _doctest_fault(case)) for case in _load(path) if "header" in case]
    return tally("authres/authres_doctest (parsing)", faults)


def _doctest_fault(case: dict[str, Any]) -> str:
    found = _parse(case["header"])
    for expression, printed in case["checks"]:
        ours = _evaluate(expression, found)
        if ours is not None and ours != printed.strip("'"):
            return f"{expression} is {ours!r}, not {printed}"
    return "" if found.methods else "nothing read"


def _evaluate(expression: str, found: AuthenticationResults) -> str | None:
    """The few kinds of expression that the doctest asks; None for those about its own classes."""
    text = expression.removeprefix("str(").rstrip(")")
    if text == "arobj.authserv_id":
        return found.authserv_id
    if "results[" not in text or text.startswith(("try", "for", "authres", "new")):
        return None
    number = int(text.partition("results[")[2].partition("]")[0])
    one, rest = found.methods[number], text.partition("]")[2]
    if rest == "":
        reason = f' reason="{one.reason}"' if one.reason else ""
        return f"{one.method}={one.result}{reason}" + "".join(
            f" {p.key}={_quoted(p.value)}" for p in one.properties if p.type
        )
    if rest.startswith(".properties["):
        item = one.properties[int(rest[12 : rest.index("]")])]
        return str(getattr(item, rest.rpartition(".")[2]))
    name = rest.lstrip(".")
    if name in ("method", "result", "reason"):
        return str(getattr(one, name))
    kind, _, key = name.partition("_")
    return str(one.get(f"{kind}.{key}"))


def _quoted(value: str) -> str:
    return value if value.isascii() and not set(value) & set(':/; "') else f'"{value}"'


def _mox(path: Path) -> Row:
    faults = []
    for case in _load(path):
        found = parse_authentication_results(unfold(case["input"].encode()))
        wanted = case["expected"]
        theirs = [
            (
                one["method"],
                one["result"],
                one["reason"],
                [(p["ptype"], p["property"], p["value"]) for p in one["props"]],
            )
            for one in wanted["methods"]
        ]
        ours = [
            (one.method, one.result, one.reason, [(p.type, p.name, p.value) for p in one.properties])
            for one in found.methods
        ]
        right = found.authserv_id == wanted["authserv_id"] and ours == theirs
        faults.append((case["input"][:60], "" if right else f"{found.authserv_id!r} {ours}"))
    return tally("authres/mox_authres", faults)


def _mailauth(path: Path) -> Row:
    """Of this file the headers; its tag lists are the business of the records that use them."""
    faults = []
    for case in _load(path):
        if case["fn"] == "parseDkimHeaders":
            faults.append((case["args"][0][:60], _mailauth_fault(case)))
        elif case["fn"] == "received.parseReceived":
            faults.append((case["args"][0][:60], _mailauth_received(case)))
    return tally("authres/mailauth_parse (headers)", faults)


def _mailauth_fault(case: dict[str, Any]) -> str:
    text = case["args"][0]
    name, colon, value = text.partition(": ")
    arc = text.startswith("i=") or name.lower().startswith("arc-")
    found = parse_authentication_results(value if colon and " " not in name else text, arc=arc)
    if not found.methods:
        return "nothing read"
    for path, wanted in case["asserted"].items():
        ours = _mailauth_value(found, path.split(".")[1:], name.lower())
        if ours is not None and ours != wanted:
            return f"{path} is {ours!r}, not {wanted!r}"
    return ""


def _mailauth_value(found: AuthenticationResults, path: list[str], name: str) -> object:
    if path == ["value"]:
        return found.authserv_id
    if path[0] == "header" and len(path) == 1:
        return name
    results = [one for one in found.methods if one.method == path[0]]
    if path[1] == "length":
        return len(results)
    if path[1] == "header" and len(path) == 2:
        return None
    one = results[int(path[1])] if path[1].isdecimal() else results[0]
    rest = path[2:] if path[1].isdecimal() else path[1:]
    return one.result if rest == ["value"] else one.get(".".join(rest))


def _mailauth_received(case: dict[str, Any]) -> str:
    hop = parse_received(case["args"][0].partition(":")[2])
    facts: dict[str, object] = {
        "from.value": hop.from_name,
        "by.value": hop.by,
        "with.value": hop.protocol,
        "id.value": hop.id,
        "envelope-from.value": f"<{hop.envelope_from}>",
    }
    if "cipher" in case["asserted"].get("tls.comment", "") and hop.cipher is None:
        return "no cipher"
    for key, ours in facts.items():
        if key in case["asserted"] and case["asserted"][key] != ours:
            return f"{key} is {ours!r}"
    return "" if hop.time is not None else "no time"
