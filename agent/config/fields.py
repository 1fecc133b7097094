"""The kinds of values the config file has: durations, sizes, addresses, hosts, paths, names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import datetime
from email.utils import getaddresses
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from agent.config.base import refuse

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,3})?(?:ms|s|m|h|d|w))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_YEAR_SECONDS = 366 * 86400.0


def read_duration(value: object) -> float:
    """`90s`, `15m`, `6h`, `14d`, `1h30m` as seconds. Raises the pydantic error otherwise."""
    if isinstance(value, float):
        return value
    right = "write a number with its unit, as in 90s, 15m, 6h or 14d"
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise refuse("not a duration", right)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(value))
    if seconds > 10 * _YEAR_SECONDS:
        raise refuse("a duration of more than ten years", right)
    return seconds


def show_duration(seconds: float) -> str:
    """Seconds as the file writes them, in the largest unit that fits: 900.0 is 15m."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return f"{int(seconds // _UNITS[unit])}{unit}"
    return f"{seconds:g}s"


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise refuse("a duration of nothing", "write more than 0s")
    return seconds


def read_instant(value: object) -> float:
    """An RFC 3339 time with its offset as seconds since the epoch. Raises the pydantic error otherwise."""
    if isinstance(value, float):
        return value
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise refuse("not a time", "write date, time and offset, as in 2026-11-21T22:00:00Z")
    return moment.timestamp()


def is_hostname(value: str) -> bool:
    """Whether this is a host name of letters, digits and hyphens (underscores are let pass)."""
    return len(value) <= 253 and bool(_HOSTNAME.fullmatch(value))


def is_address(value: str) -> bool:
    """Whether this is a plain local@domain (RFC 5321 dot-string, ASCII)."""
    local, _, domain = value.rpartition("@")
    return len(local) <= 64 and bool(_LOCAL.fullmatch(local)) and is_hostname(domain) and "." in domain


def is_ip(value: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether the host never leaves this machine."""
    return host == "localhost" or (is_ip(host) and ipaddress.ip_address(host).is_loopback)


def split_host_port(value: str) -> tuple[str, int | None] | None:
    """`host:port`, `[v6]:port`, `host` or a bare IPv6 address as host and port; None where it is none."""
    found = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?|([^\s:/\[\]]+)(?::(\d{1,5}))?", value)
    if found is None:
        return (value, None) if is_ip(value) else None
    host, port = found[1] or found[3], found[2] or found[4]
    if not (is_ip(host) or is_hostname(host)) or (port and not 0 < int(port) < 65536):
        return None
    return host, int(port) if port else None


def parse_from(value: str) -> tuple[str, str] | None:
    """`Name <local@domain>` as name and address; None where it is not exactly one address."""
    if len(value) > 400 or any(ord(char) < 32 or ord(char) == 127 for char in value):
        return None
    found = getaddresses([value])
    if len(found) != 1 or not is_address(found[0][1]):
        return None
    return found[0]


def _from(value: str) -> str:
    if parse_from(value) is None:
        raise refuse(
            "not one mail address", 'write `noreply@acme.example` or `"Acme <noreply@acme.example>"`'
        )
    return value


def _address(value: str) -> str:
    if not is_address(value):
        raise refuse("not a mail address", "write local@domain, a domain beyond ASCII in its xn-- form")
    return value


def _host(value: str) -> str:
    if not (is_ip(value) or is_hostname(value)):
        raise refuse("not a host", "write a host name or an IP address, without scheme and port")
    return value.rstrip(".")


def _domain(value: str) -> str:
    if not is_hostname(value) or is_ip(value):
        raise refuse("not a domain", "write it as in example.com, beyond ASCII in its xn-- form")
    return value.rstrip(".").lower()


def _ip(value: str) -> str:
    if not is_ip(value):
        raise refuse("not an IP address", "write it as in 192.0.2.1 or 2001:db8::1")
    return str(ipaddress.ip_address(value))


def _network(value: str) -> str:
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        host_bits = "host bits" in str(error)
        what = "a network with host bits set" if host_bits else "neither an IP address nor a network"
        right = (
            f"write {ipaddress.ip_network(value, strict=False)}"
            if host_bits
            else "as in 192.0.2.1 or 192.0.2.0/28"
        )
        raise refuse(what, right) from None
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def _host_pattern(value: str) -> str:
    return _network(value) if "/" in value else value.lower()


def _nameserver(value: str) -> str:
    found = split_host_port(value)
    if found is None or not is_ip(found[0]):
        raise refuse(
            "not a name server", "write its IP address, with a port if not 53, as in 192.0.2.53:5353"
        )
    return value


def _listen(value: str) -> str:
    found = split_host_port(value)
    if found is None or found[1] is None:
        raise refuse("not an address to listen on", "write host and port, as in 127.0.0.1:9465")
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or any(char.isspace() for char in value):
        raise refuse("not a URL", "write it as in https://mail.example.com/canary")
    if parts.username is not None or parts.password is not None:
        raise refuse("a URL that holds a login", "write it without; secrets have their own settings")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise refuse("not a name", "use up to 63 of letters, digits, dot, hyphen and underscore")
    return value


def _line(value: str) -> str:
    if not value.strip() or any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise refuse("not one line of text", "write something, without line breaks")
    return value


def resolve_path(value: object, info: ValidationInfo) -> Path:
    """A path relative to the config file's folder as an absolute one."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value or "\n" in value:
        raise refuse("not a path", "write a path, relative to this file or absolute")
    base: Path = (info.context or {}).get("base", Path())
    return base / value


def _existing(path: Path) -> Path:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise refuse(f"the file {what}", "write the path of a file, relative to this file or absolute")
    return path


def _text_schema(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


def _text(check: Callable[[str], str]) -> Any:
    return AfterValidator(check)


DURATION_PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$"
_DURATION_SCHEMA = _text_schema(DURATION_PATTERN, "90s", "15m", "6h", "14d")

DurationOrZero = Annotated[float, BeforeValidator(read_duration), _DURATION_SCHEMA]
Duration = Annotated[float, BeforeValidator(read_duration), AfterValidator(_positive), _DURATION_SCHEMA]
Instant = Annotated[
    float, BeforeValidator(read_instant), WithJsonSchema({"type": "string", "format": "date-time"})
]
Port = Annotated[int, Field(ge=1, le=65535)]
From = Annotated[str, _text(_from)]
Address = Annotated[str, _text(_address)]
Host = Annotated[str, _text(_host)]
Domain = Annotated[str, _text(_domain)]
Ip = Annotated[str, _text(_ip)]
Network = Annotated[str, _text(_network)]
HostPattern = Annotated[str, _text(_host_pattern)]
Nameserver = Annotated[str, _text(_nameserver)]
Listen = Annotated[str, _text(_listen)]
Url = Annotated[str, _text(_url)]
Name = Annotated[str, _text(_name)]
Line = Annotated[str, _text(_line)]
FilePath = Annotated[
    Path, BeforeValidator(resolve_path), AfterValidator(_existing), WithJsonSchema({"type": "string"})
]
