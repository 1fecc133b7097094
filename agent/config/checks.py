"""What is wrong between parts of the file: dangling names, doubles, presets. Works on the raw tree.

Raw, so that these are told in the same run as what is wrong inside the parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from agent.config.explain import show_path, suggest
from agent.config.fields import is_loopback
from agent.config.providers import provider_facts, provider_names
from alerts.settings import AlertKind

Path = tuple[str | int, ...]


class Finding(NamedTuple):
    """Something wrong at a path; key: the key's own place is meant."""

    path: Path
    what: str
    right: str
    key: bool = False


def check(raw: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything that is wrong between the parts of the file."""
    for one in (_nothing_to_do, _providers, _addresses, _route_names, _doubles, _alert_names, _watchdogs):
        yield from one(raw)


def mapping(raw: Any, *path: str) -> Mapping[str, Any]:
    """The mapping at the path, empty where there is none."""
    for step in path:
        raw = raw.get(step) if isinstance(raw, Mapping) else None
    return raw if isinstance(raw, Mapping) else {}


def items(raw: Any, *path: str) -> list[Any]:
    """The list at the path, empty where there is none."""
    found = mapping(raw, *path[:-1]).get(path[-1])
    return found if isinstance(found, list) else []


def _nothing_to_do(raw: Mapping[str, Any]) -> Iterator[Finding]:
    if not any(raw.get(key) for key in ("senders", "seeds")) and not any(
        raw.get(key) is not None for key in ("blocklists", "records")
    ):
        yield Finding((), "nothing to do", "name at least one sender and one seed, or blocklists or records")


def _mailboxes(raw: Mapping[str, Any]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for name, seed in mapping(raw, "seeds").items():
        if isinstance(seed, Mapping):
            yield ("seeds", name), seed
    if isinstance(raw.get("bounces"), Mapping):
        yield ("bounces",), {"provider": "generic", **raw["bounces"]}


def _providers(raw: Mapping[str, Any]) -> Iterator[Finding]:
    for path, box in _mailboxes(raw):
        provider = box.get("provider")
        if not isinstance(provider, str):
            continue
        facts = provider_facts(provider)
        if facts is None:
            yield Finding(
                (*path, "provider"), "no preset of that name", suggest(provider, provider_names(), "")
            )
            continue
        imap = mapping(box, "imap")
        if not facts.host and not imap.get("host"):
            what = f"`imap.host` is missing, and provider {provider} has no host of its own"
            yield Finding(path, what, "add `imap: {host: imap.example.com}`", key=True)
        elif imap.get("security") == "none" and not is_loopback(str(imap.get("host") or facts.host)):
            right = "write tls or starttls"
            yield Finding((*path, "imap", "security"), "plain text to another machine is refused", right)


def _addresses(raw: Mapping[str, Any]) -> Iterator[Finding]:
    seen: dict[str, Path] = {}
    for path, box in _mailboxes(raw):
        address = box.get("address")
        if not isinstance(address, str):
            continue
        first = seen.setdefault(address.lower(), path)
        if first != path:
            what = f"the mailbox of {show_path(first)} again"
            yield Finding((*path, "address"), what, "one mailbox is one seed; give another address")


def _dangling(path: Path, names: Any, valid: Mapping[str, Any], thing: str) -> Iterator[Finding]:
    if not isinstance(names, list):
        return
    for index, name in enumerate(names):
        if isinstance(name, str) and name not in valid and "*" not in name:
            right = suggest(name, list(valid), f"there are no {thing}s")
            yield Finding((*path, index), f"no {thing} is named `{name[:64]}`", right)


def _route_names(raw: Mapping[str, Any]) -> Iterator[Finding]:
    for index, group in enumerate(items(raw, "routes")):
        if isinstance(group, Mapping):
            for key, thing in (("senders", "sender"), ("seeds", "seed")):
                yield from _dangling(("routes", index, key), group.get(key), mapping(raw, key), thing)


def _doubles(raw: Mapping[str, Any]) -> Iterator[Finding]:
    before: dict[int, tuple[set[str], set[str]]] = {}
    for index, group in enumerate(items(raw, "routes")):
        if not isinstance(group, Mapping):
            continue
        senders, seeds = _members(raw, group, "senders"), _members(raw, group, "seeds")
        clash = _clash(senders, seeds, index, before)
        before[index] = set(senders), set(seeds)
        if clash:
            (sender, seed), first = clash
            again = f"the route {sender}/{seed} again" + (
                "" if first == index else f"; it is in routes[{first}]"
            )
            yield Finding(
                ("routes", index), again, "keep each route once; `senders` and `seeds` left out mean all"
            )


def _clash(
    senders: Sequence[str], seeds: Sequence[str], index: int, before: Mapping[int, tuple[set[str], set[str]]]
) -> tuple[tuple[str, str], int] | None:
    """The first route of the group that was given before, with the index of that group. before: senders and
    seeds of the earlier groups. A group may be a million routes: walked through only to say which."""
    near = {i: both for i, both in before.items() if both[0] & {*senders} and both[1] & {*seeds}}
    if not near and len({*senders}) == len(senders) and len({*seeds}) == len(seeds):
        return None
    seen: set[tuple[str, str]] = set()
    for route in product(senders, seeds):
        first = next((i for i, both in near.items() if route[0] in both[0] and route[1] in both[1]), None)
        if first is not None or route in seen:
            return route, index if first is None else first
        seen.add(route)
    return None


def _members(raw: Mapping[str, Any], group: Mapping[str, Any], key: str) -> list[str]:
    given = group.get(key)
    if given is None:
        return list(mapping(raw, key))
    return [name for name in given if isinstance(name, str)] if isinstance(given, list) else []


def _alert_names(raw: Mapping[str, Any]) -> Iterator[Finding]:
    receivers = mapping(raw, "alerts", "receivers")
    for index, route in enumerate(items(raw, "alerts", "routes")):
        path: Path = ("alerts", "routes", index)
        for key in ("receivers", "escalate_to"):
            yield from _dangling((*path, key), mapping(route).get(key), receivers, "receiver")
        yield from _match(raw, (*path, "match"), mapping(route, "match"))
    for index, window in enumerate(items(raw, "alerts", "maintenance")):
        yield from _match(raw, ("alerts", "maintenance", index, "match"), mapping(window, "match"))


def _match(raw: Mapping[str, Any], path: Path, match: Mapping[str, Any]) -> Iterator[Finding]:
    providers = {box["provider"]: 1 for _, box in _mailboxes(raw) if isinstance(box.get("provider"), str)}
    named = match.get("routes")
    pairs = product(mapping(raw, "senders"), mapping(raw, "seeds")) if named else ()
    routes = {f"{sender}/{seed}": 1 for sender, seed in pairs}
    valid: tuple[tuple[str, Mapping[str, Any], str], ...] = (
        ("senders", mapping(raw, "senders"), "sender"),
        ("seeds", mapping(raw, "seeds"), "seed"),
        ("providers", providers, "provider in use"),
        ("kinds", dict.fromkeys(map(str, AlertKind)), "kind of alert"),
        ("routes", routes, "route"),
    )
    for key, names, thing in valid:
        yield from _dangling((*path, key), match.get(key), names, thing)


def _watchdogs(raw: Mapping[str, Any]) -> Iterator[Finding]:
    receivers = mapping(raw, "alerts", "receivers")
    path: Path = ("alerts", "heartbeat", "watchdog")
    names = items(raw, *map(str, path))
    yield from _dangling(path, names, receivers, "receiver")
    for index, name in enumerate(names):
        if isinstance(name, str) and name in receivers and "alertmanager" not in mapping(receivers.get(name)):
            yield Finding(
                (*path, index), "a watchdog that is no Alertmanager", "name a receiver with `alertmanager`"
            )
