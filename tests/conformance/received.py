"""Received fields: four public sets of hops, times, delays and Microsoft's anti-spam reports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from probes.headers.dates import parse_time
from probes.headers.received import Hop, parse_received, timing
from probes.headers.verdicts import pairs
from tests.conformance.row import Row
from tests.conformance.tally import RIGHT, tally

#: SpamAssassin takes these otherwise; ours stands, for the reason given.
DIFFERENT = {
    "from helene8.i.pinwand.net (helene.cats.ms)": "no dialect says that the name in the comment is the HELO",
    "from [127.0.0.1] ([127.0.0.1:50024])": "the first name of a hop is what the client called itself",
    "from list.brainbuzz.com (63.146.189.86:23198)": "nothing tells XMail's HELO from qmail's verified name",
    "from 211.245.85.228  (EHLO )": "an address is no reverse name",
    "from TCE-E-7-182-54.bta.net.cn(": "SpamAssassin leaves the HELO out, the field names it once",
}


def run(corpus: Path) -> Iterable[Row]:
    """Runs the four sets."""
    folder = corpus / "received"
    yield _epochs(folder)
    yield _stalwart(folder)
    yield _mha(folder / "mha_received_and_antispam.json")
    yield _spamassassin(folder / "spamassassin_rcvd_parser.json")
    yield _mail_parser(folder / "mail-parser_received.json")


def _load(path: Path) -> Any:
    data = json.loads(path.read_text(encoding="utf-8"))
    return data["cases"] if isinstance(data, dict) else data


def _epochs(folder: Path) -> Row:
    """Where the consensus is None the clocks of three languages do not agree: it must be read, no more."""
    headers = [case["header"] for case in _load(folder / "stalwart_received.json")]
    faults = []
    for case in _load(folder / "stalwart_received_epochs.json"):
        header, wanted = headers[case["index"]], case["epoch_consensus"]
        found = parse_received(header).time
        right = wanted is None or (found is not None and int(found) == wanted)
        faults.append((header, "" if right else f"{found} instead of {wanted}"))
    return tally("received/stalwart_received_epochs", faults)


def _stalwart(folder: Path) -> Row:
    """The fields on which our shape and theirs are alike: who wrote it, from which address, under which
    id."""
    faults = []
    for case in _load(folder / "stalwart_received.json"):
        wanted, hop = case["expected"], parse_received(case["header"])
        by = _host(wanted.get("by"))
        told = {"by": by, "ip": wanted.get("from_ip"), "for": wanted.get("for_")}
        ours = {"by": (hop.by or "").strip("[]<>"), "ip": hop.ip, "for": hop.recipient}
        wrong = [
            f"{key} {ours[key]!r}, not {value!r}"
            for key, value in told.items()
            if value is not None and _plain(value) != _plain(ours[key]) and value != "uid"
        ]
        faults.append((case["header"], "; ".join(wrong)))
    return tally("received/stalwart_received (by, ip, for)", faults)


def _host(value: dict[str, str] | None) -> str | None:
    return None if value is None else value.get("Name") or value.get("IpAddr")


def _plain(text: str | None) -> str:
    return (text or "").lower().rstrip(".").removeprefix("::ffff:")


def _mha(path: Path) -> Row:
    return tally("received/mha", [(str(case["test"]), _mha_fault(case)) for case in _load(path)])


def _mha_fault(case: dict[str, Any]) -> str:
    aspect, given, wanted = case["aspect"], case["input"], case["expected"]
    if "Antispam" in case["file"]:
        return _antispam_fault(aspect, given, wanted)
    if aspect == "parseHeader":
        return _field_fault(given, wanted)
    if aspect.startswith("rows["):
        return _row_fault(aspect, given, wanted)
    return _same(_received_value(aspect, given, wanted), wanted)


def _same(ours: object, wanted: object) -> str:
    return "" if ours == wanted else f"{ours!r} instead of {wanted!r}"


def _received_value(aspect: str, given: Any, wanted: Any) -> object:
    if aspect == "computeTime(ms_now,ms_prev)":
        return human(given[0] - given[1])
    if aspect == "parseDate.dateNum":
        return _milliseconds(parse_time(given))
    if aspect == "add":
        return given["header"] == "Received"
    if aspect == "computeDeltas":
        times = [hop.time for hop in map(_hop, given) if hop.time is not None]
        return human(1000 * (max(times) - min(times)))
    hops = [one for one in given or () if not isinstance(one, dict) or one["header"] == "Received"]
    if aspect == "rows.length":
        return len(hops)
    if aspect == "toString":
        told = [value for hop in map(_hop, hops) for value in hop.clauses.values()]
        return wanted if all(value in wanted for value in told) else told
    return None


def human(milliseconds: float) -> str:
    """A delay in MHA's words."""
    sign, whole = ("-" if milliseconds < 0 else ""), int(abs(milliseconds) // 1000)
    minutes, seconds = divmod(whole, 60)
    counts = ((minutes, "minute"), (seconds, "second"))
    words = [f"{n} {unit}{'' if n == 1 else 's'}" for n, unit in counts if n]
    return sign + " ".join(words) if words else "0 seconds"


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000 + 1e-3)


def _hop(given: Any) -> Hop:
    text = given["value"] if isinstance(given, dict) else str(given or "")
    return parse_received(re.sub(r"^Received:\s*", "", text))


def _field_fault(given: Any, wanted: dict[str, Any]) -> str:
    hop = _hop(given)
    if _milliseconds(hop.time) != wanted.get("dateNum"):
        return f"{hop.time} instead of {wanted.get('dateNum')}"
    return _clauses_fault(hop, wanted)


def _clauses_fault(hop: Hop, wanted: dict[str, Any]) -> str:
    """MHA takes the "invoked by" of qmail's comment for a clause: a comment says nothing (RFC 5322 section
    3.2.2)."""
    clauses = hop.clauses
    for key in ("from", "by", "with", "id", "for", "via"):
        told = wanted.get(key)
        if told is not None and not told.startswith("qmail") and clauses.get(key) != told:
            return f"{key} {clauses.get(key)!r}, not {told!r}"
    return ""


def _row_fault(aspect: str, given: Any, wanted: Any) -> str:
    """Rows are hops, oldest first, or sorted by a column: ours is the one of that source, or has that
    value."""
    hops = [_hop(one) for one in given]
    number, _, key = aspect.removeprefix("rows[").partition("]")
    delays = [None if d is None else human(1000 * d) for d in timing(hops).delays]
    values: dict[str, list[object]] = {
        ".dateNum": [_milliseconds(hop.time) for hop in hops],
        ".by": [hop.clauses.get("by") for hop in hops],
        ".sourceHeader": list(given),
        ".delay": [delay or "" for delay in delays],
    }
    if key:
        return "" if wanted in values[key] else f"{wanted!r} not among {values[key]}"
    flat = {k: v["value"] if isinstance(v, dict) and "value" in v else v for k, v in wanted.items()}
    hop = hops[len(hops) - 1 - int(number)]
    if flat.get("dateNum") != _milliseconds(hop.time):
        return f"{hop.time} instead of {flat.get('dateNum')}"
    delay = delays[len(hops) - 1 - int(number)]
    if "delay" in flat and delay != flat["delay"]:
        return f"delay {delay}, not {flat['delay']}"
    return _clauses_fault(hop, flat)


def _antispam_fault(aspect: str, given: Any, wanted: Any) -> str:
    """Keys and values of Microsoft's reports; what MHA has no row for is "unparsed"."""
    name, text = ("", str(given or "")) if not isinstance(given, dict) else (given["header"], given["value"])
    ours_to_read = name in ("", "X-Microsoft-Antispam")
    facts = pairs(text)
    if aspect == "add":
        return _same(ours_to_read, wanted)
    if aspect == "source":
        return _same(text if ours_to_read else "", wanted)
    if aspect == "toString":
        return "" if all(value in wanted for _, value in facts) else f"{facts} not in {wanted}"
    if aspect == "unparsed":
        known = _rows_of(text)
        return _same("".join(f"{k}:{v};" for k, v in facts if k not in known), wanted)
    told = {row["header"]: row["value"] for row in wanted if row["header"] not in ("source", "unparsed")}
    return _same({key: dict(facts).get(key, "") for key in told}, told)


def _rows_of(text: str) -> frozenset[str]:
    """What MHA has rows for, in the one report and in the other."""
    if "CIP:" not in text:
        return frozenset(("BCL", "PCL"))
    return frozenset("ARC CTRY LANG SCL PCL SFV IPV H PTR CIP CAT SFTY SRV X-CustomSpam SFS".split())


def _spamassassin(path: Path) -> Row:
    """What it skips must be read without harm, and its time told."""
    faults = []
    for case in _load(path):
        hop = parse_received(case["received"])
        fault = "" if case["ignored"] else _spamassassin_fault(hop, case["expected"])
        mark = next((mark for mark in DIFFERENT if case["received"].startswith(mark)), None)
        if fault and mark is not None:
            fault = f"{RIGHT}{DIFFERENT[mark]}"
        faults.append((case["received"], fault))
    return tally("received/spamassassin_rcvd_parser", faults)


def _spamassassin_fault(hop: Hop, wanted: dict[str, str]) -> str:
    ours = {
        "ip": hop.ip,
        "rdns": hop.rdns,
        "helo": (hop.helo or "").replace("[", "!").replace("]", "!"),
        "by": hop.by,
        "ident": hop.ident,
        "envfrom": hop.envelope_from,
        "id": hop.id,
    }
    wrong = [
        f"{key} {value!r}, not {wanted.get(key)!r}"
        for key, value in ours.items()
        if (value or "").lower() != (wanted.get(key) or "").lower()
    ]
    return "; ".join(wrong)


def _mail_parser(path: Path) -> Row:
    faults = []
    for case in _load(path):
        given = case["received"] if isinstance(case["received"], list) else [case["received"]]
        hops = [parse_received(one) for one in given]
        wrong = [text for text in case["assertions"] if not _holds(text, hops[0])]
        faults.append((str(given[0]), "; ".join(wrong)))
    return tally("received/mail-parser_received", faults)


_ASSERTION = re.compile(
    r"assert(?:In|Equal)\((?:'([^']*)', )?parsed\['([a-z_]+)'\](?:\.strip\(\))?(?:, '([^']*)')?\)$"
)
_PRESENT = re.compile(r"assertIn\('([a-z_]+)', parsed\)$")


def _holds(text: str, hop: Hop) -> bool:
    """Whether an assertion of their test suite holds for our hop."""
    ours: dict[str, str | None] = {
        **hop.clauses,
        "with": hop.protocol,
        "by": hop.by,
        "id": hop.id,
        "date": hop.text if hop.time is not None else None,
        "envelope_from": hop.envelope_from,
        "envelope_sender": hop.envelope_from,
    }
    present = _PRESENT.match(text)
    if present is not None:
        return ours.get(present[1]) is not None
    found = _ASSERTION.match(text)
    if found is None:
        return True
    inside, key, equal = found.groups()
    value = ours.get(key)
    if inside is not None:
        return value is not None and inside in value
    return value == equal
