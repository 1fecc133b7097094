"""Times as mail writes them, to seconds since the epoch. Never raises.

RFC 5322 section 3.3 and its obsolete forms first; then what Received fields hold in practice: asctime, ISO
8601, Go's `2018-04-22 02:54:17.028704749 +0000 UTC`, `4/20/2018 11:01:36 PM`. A second of 60 is the next
minute's first; -0000 and zones nobody knows are UTC, as section 4.3 says.
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache

_MONTHS = {
    name: number + 1
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    )
}
_ZONES = {
    "ut": 0, "utc": 0, "gmt": 0, "z": 0, "wet": 0, "bst": 3600, "cet": 3600, "met": 3600, "west": 3600,
    "cest": 7200, "mest": 7200, "eet": 7200, "eest": 10800, "msk": 10800, "ist": 19800, "jst": 32400, "kst":
    32400, "est": -18000, "edt": -14400, "cst": -21600, "cdt": -18000, "mst": -25200, "mdt": -21600, "pst":
    -28800, "pdt": -25200, "akst": -32400, "akdt": -28800, "hst": -36000, "aest": 36000, "aedt": 39600,
    "nzst": 43200, "nzdt": 46800,
}  # fmt: skip
_EPOCH = date(1970, 1, 1).toordinal()
_MAX_TEXT = 400

_USUAL = re.compile(
    r"\s*(?:[A-Za-z]{3,9},?\s*)?(\d{1,2}[ -][A-Za-z]{3}[a-z]*[ -]\d{4})\s+"
    r"(\d{2}):(\d{2}):(\d{2})(\.\d{1,9})?\s*([+-]\d{4})(?!\d)"
)
_TIME = re.compile(r"(?<!\d)(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9})\d*)?)?\s*([AaPp][Mm]\b)?")
_ZONE = re.compile(r"\s*\(?(?:([+-])(\d{2}):?(\d{2})(?!\d)|([A-Za-z]{1,5})(?![\w]))")
_ISO_DAY = re.compile(r"(?<![\d-])(\d{4})([-/])(\d{1,2})\2(\d{1,2})(?=[T\s]|$)")
_NUMERIC_DAY = re.compile(r"(?<![\d/-])(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})(?![\d/-])")
_DAY_FIRST = re.compile(r"(?<!\d)(\d{1,2})[ -]+([A-Za-z]{3})[a-z]{0,6}\.?,?[ -]+(\d{2,4})(?!\d)")
_MONTH_FIRST = re.compile(r"(?<![A-Za-z])([A-Za-z]{3})[a-z]{0,6}\.?\s+(\d{1,2}),?(?=\s)")
_YEAR_NEXT = re.compile(r"\s*\d{4}(?=\s)")
_YEAR = re.compile(r"(?<![\d:+-])(\d{4})(?![\d:])")


def parse_time(text: str) -> float | None:
    """The time that `text` tells, in seconds since the epoch; None where it tells none.

    Text around it does not matter; without a zone it is UTC; a day without a time is that day's midnight.
    """
    usual = _USUAL.match(text)
    if usual is not None:
        whole = epoch(*usual.group(1, 2, 3, 4, 6))
        if whole is not None:
            return whole + float(usual[5]) if usual[5] else whole
    return _unusual(text[:_MAX_TEXT])


def epoch(day: str, hour: str, minute: str, second: str, zone: str) -> float | None:
    """Seconds since the epoch of a time in the usual pieces ("21 Nov 2026", "08", "15", "30", "-0800"), two
    digits for hour, minute and second; None where there is no such time."""
    midnight = _midnight(day)
    try:
        clock = _HOURS[hour] + _MINUTES[minute] + _SECONDS[second]
    except KeyError:
        return None
    return None if midnight is None else float(midnight + clock - _east(zone))


_HOURS = {f"{hour:02}": hour * 3600 for hour in range(25)}
_MINUTES = {f"{minute:02}": minute * 60 for minute in range(60)}
_SECONDS = {f"{second:02}": second for second in range(61)}


@lru_cache(512)
def _midnight(text: str) -> int | None:
    """Seconds since the epoch at the start of that day in UTC."""
    day, month, year = text.replace("-", " ").split(" ")
    number = _MONTHS.get(month[:3].lower())
    start = None if number is None else _epoch(int(year), number, int(day), 0, 0, 0, 0.0, 0)
    return None if start is None else int(start)


@lru_cache(512)
def _east(zone: str) -> int:
    """Seconds east of UTC of a numeric zone; 0 for one that cannot be."""
    seconds = int(zone[1:3]) * 3600 + int(zone[3:]) * 60
    return (-seconds if zone[0] == "-" else seconds) if seconds < 86400 else 0


def _unusual(text: str) -> float | None:
    time = _TIME.search(text)
    found = _day(text)
    if found is None:
        return None
    if time is None:
        return _epoch(*found, 0, 0, 0, 0.0, 0)
    hour, minute, second, fraction, half = time.groups()
    hours = int(hour)
    if half is not None and 1 <= hours <= 12:
        hours = hours % 12 + (12 if half in ("PM", "pm", "Pm", "pM") else 0)
    part = int(fraction) / 10 ** len(fraction) if fraction else 0.0
    year_between = _YEAR_NEXT.match(text, time.end())
    at = year_between.end() if year_between else time.end()
    return _epoch(*found, hours, int(minute), int(second or 0), part, _offset(text, at))


def _day(text: str) -> tuple[int, int, int] | None:
    """Year, month, day in whichever order they stand."""
    for match in _DAY_FIRST.finditer(text):
        month = _MONTHS.get(match[2].lower())
        if month is not None:
            return _full_year(match[3]), month, int(match[1])
    for match in _MONTH_FIRST.finditer(text):
        month = _MONTHS.get(match[1].lower())
        year = _YEAR.search(text, match.end())
        if month is not None and year is not None:
            return int(year[1]), month, int(match[2])
    iso = _ISO_DAY.search(text)
    if iso is not None:
        return int(iso[1]), int(iso[3]), int(iso[4])
    numeric = _NUMERIC_DAY.search(text)
    if numeric is not None:
        first, second = int(numeric[1]), int(numeric[3])
        month, day = (second, first) if first > 12 or numeric[2] == "." else (first, second)
        return _full_year(numeric[4]), month, day
    return None


def _full_year(text: str) -> int:
    """RFC 5322 section 4.3: two digits are 1950 to 2049, three count from 1900."""
    year = int(text)
    if len(text) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(text) == 3 else year


def _offset(text: str, at: int) -> int:
    """Seconds east of UTC told at that place; 0 where nothing known stands there."""
    found = _ZONE.match(text, at)
    if found is None:
        return 0
    sign, hours, minutes, name = found.groups()
    if name is not None:
        return _ZONES.get(name.lower(), 0)
    seconds = int(hours) * 3600 + int(minutes) * 60
    return -seconds if sign == "-" else seconds


def _epoch(
    year: int, month: int, day: int, hour: int, minute: int, second: int, part: float, offset: int
) -> float | None:
    if hour > 24 or minute > 59 or second > 60 or not -86400 < offset < 86400:
        if hour > 24 or minute > 59 or second > 60:
            return None
        offset = 0
    try:
        days = date(year, month, day).toordinal() - _EPOCH
    except ValueError:
        return None
    return days * 86400 + hour * 3600 + minute * 60 + second + part - offset
