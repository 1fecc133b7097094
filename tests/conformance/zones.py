"""DNS zones as the public suites write them, behind our Resolver protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from probes.dns import DnsAnswer, DnsStatus

_STATUS = {
    "ENOTFOUND": DnsStatus.NXDOMAIN,
    "ENODATA": DnsStatus.NODATA,
    "ETIMEOUT": DnsStatus.TIMEOUT,
    "EREFUSED": DnsStatus.REFUSED,
    "ESERVFAIL": DnsStatus.SERVFAIL,
}


class Zone:
    """Names to types to records (or a status). CNAMEs are followed, as a recursive resolver does."""

    def __init__(self, names: Mapping[str, Mapping[str, list[str] | DnsStatus]]) -> None:
        self._names = {name.lower().rstrip("."): types for name, types in names.items()}

    async def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> DnsAnswer:
        """Answers at once; a name that is not in the zone does not exist."""
        at = name.lower().rstrip(".")
        for _ in range(10):
            types = self._names.get(at)
            if types is None:
                return DnsAnswer(name, rdtype, DnsStatus.NXDOMAIN)
            found = types.get(rdtype)
            if isinstance(found, DnsStatus):
                return DnsAnswer(name, rdtype, found)
            if found:
                return DnsAnswer(name, rdtype, DnsStatus.OK, tuple(found))
            target = types.get("CNAME")
            if not isinstance(target, list):
                every = types.get("*", DnsStatus.NODATA)
                return DnsAnswer(name, rdtype, every if isinstance(every, DnsStatus) else DnsStatus.NODATA)
            at = target[0].lower().rstrip(".")
        return DnsAnswer(name, rdtype, DnsStatus.SERVFAIL)


def suite_zone(data: Mapping[str, Iterable[object]]) -> Zone:
    """The zonedata of the RFC 7208 suite: SPF stands for TXT unless the name has TXT of its own; TIMEOUT
    for the rest.
    """
    names: dict[str, dict[str, list[str] | DnsStatus]] = {}
    for name, records in data.items():
        types = names.setdefault(name, {})
        pairs = [pair for record in records if isinstance(record, dict) for pair in record.items()]
        own_text = any(kind == "TXT" for kind, _ in pairs)
        if "TIMEOUT" in records:  # type: ignore[operator]
            types["*"] = DnsStatus.TIMEOUT
        for kind, value in pairs:
            if (kind == "SPF" and own_text) or value == "NONE":
                continue
            found = types.setdefault("TXT" if kind == "SPF" else kind, [])
            assert isinstance(found, list)
            found.append(_shown(kind, value))
    return Zone(names)


def recorded_zone(data: Mapping[str, object]) -> Zone:
    """The answers a recorder wrote down: "name TYPE" -> records, or {"error": code}."""
    names: dict[str, dict[str, list[str] | DnsStatus]] = {}
    for key, value in data.items():
        name, _, kind = key.rpartition(" ")
        types = names.setdefault(name, {})
        if isinstance(value, dict):
            types[kind] = _STATUS[value["error"]]
        elif isinstance(value, list):
            types[kind] = [_recorded(one) for one in value]
    return Zone(names)


def _shown(kind: str, value: object) -> str:
    if kind == "MX" and isinstance(value, list):
        return f"{value[0]} {value[1]}"
    text = "".join(value) if isinstance(value, list) else str(value)
    return text.encode().decode("latin-1")


def _recorded(one: object) -> str:
    if isinstance(one, dict):
        return f"{one['priority']} {one['exchange']}"
    return "".join(one) if isinstance(one, list) else str(one)
