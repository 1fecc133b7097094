"""Reads the config file: all that is wrong with it at once, or one immutable Config."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.config.advice import advise
from agent.config.checks import Finding, check
from agent.config.contents import check_contents
from agent.config.document import MAX_BYTES, Document, Node
from agent.config.explain import explain, private_keys, show_path
from agent.config.models import Config, walk_secrets
from agent.config.plan import over_the_caps
from agent.config.problems import ConfigInvalid, Problem

OWN = ("listen", "region", "log_format", "log_level")
"""Settings of `agent` in which the agents of a fleet may differ."""
RESOLVER = "resolver"
"""Beside them, an agent may have nameservers of its own: with commas between."""

_PLANNED = ("senders", "seeds", "routes", "limits")


def load(
    path: str | Path,
    env: Mapping[str, str] | None = None,
    *,
    require_secrets: bool = False,
    own: Mapping[str, str | None] | None = None,
) -> Config:
    """Reads and checks a config file.

    env: where `{env: NAME}` secrets are found, the process environment by default. require_secrets: secrets
    that cannot be read now are errors (as `run` wants it) and not warnings. own: settings of `agent`, and
    RESOLVER, that count for this agent instead of the file's (None: not set). Raises ConfigInvalid with every
    problem of the file.
    """
    name = str(path)
    return parse(_read(name), name, env, require_secrets=require_secrets, own=own)


def parse(
    data: bytes,
    file: str,
    env: Mapping[str, str] | None = None,
    *,
    require_secrets: bool = False,
    own: Mapping[str, str | None] | None = None,
) -> Config:
    """As `load`, of bytes. file: its path, for messages and as the base of relative paths."""
    document = Document(file, data, private_keys(Config))
    if document.root.kind != "mapping":
        node = document.root
        what = f"{'a list' if node.kind == 'list' else 'text'} where the settings are wanted"
        raise ConfigInvalid(
            [document.problem_at(node.line, node.column, what, "write `senders:` and `seeds:`")]
        )
    raw = document.value()
    if own:
        _put_own(raw, own)
    context = {
        "base": Path(file).absolute().parent,
        "env": os.environ if env is None else env,
        "plain": _plain(raw),
    }
    problems = list(document.problems)
    config = _validate(document, raw, context, problems)
    findings = list(check(raw))
    if not any(finding.path and finding.path[0] in _PLANNED for finding in findings):
        findings += _over(config, raw, context)
    problems += _placed(document, findings)
    if config is None or problems:
        raise ConfigInvalid(problems)
    config._text = data.decode("utf-8", "replace")
    return _finish(config, document, raw, require_secrets)


def _put_own(raw: dict[str, Any], own: Mapping[str, str | None]) -> None:
    mine = {key: value for key, value in own.items() if key != RESOLVER}
    raw["agent"] = {k: v for k, v in {**_section(raw, "agent"), **mine}.items() if v is not None}
    if servers := own.get(RESOLVER):
        raw["resolver"] = {**_section(raw, "resolver"), "nameservers": servers.split(",")}


def _section(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    said = raw.get(name)
    return said if isinstance(said, dict) else {}


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        what = f"cannot be read: {error.strerror or type(error).__name__}"
        raise ConfigInvalid(
            [Problem(name, 1, 1, what, "give the path of the config file with --config")]
        ) from None


def _plain(raw: Mapping[str, Any]) -> bool:
    agent = raw.get("agent")
    word = agent.get("allow_plain_secrets") if isinstance(agent, Mapping) else None
    return str(word).lower() in ("true", "yes", "on", "1", "y", "t")


def _validate(
    document: Document, raw: Mapping[str, Any], context: dict[str, Any], problems: list[Problem]
) -> Config | None:
    try:
        return Config.model_validate(raw, context=context)
    except ValidationError as error:
        problems += explain(document, Config, error)
        return None


def _over(config: Config | None, raw: Mapping[str, Any], context: dict[str, Any]) -> Iterator[Finding]:
    """Whether the plan is over the caps; also of a file that is wrong, but elsewhere."""
    if config is None:
        try:
            config = Config.model_validate({key: raw[key] for key in _PLANNED if key in raw}, context=context)
        except ValidationError:
            return
    yield from over_the_caps(config)


def _placed(document: Document, findings: Iterable[Finding]) -> Iterator[Problem]:
    for finding in findings:
        line, column = document.position(finding.path, key=finding.key)
        place = show_path(finding.path)
        yield document.problem_at(
            line, column, f"{place}: {finding.what}" if place else finding.what, finding.right
        )


def _finish(config: Config, document: Document, raw: Mapping[str, Any], require_secrets: bool) -> Config:
    unread: list[Problem] = []
    loose: list[Problem] = []
    wrong = list(_placed(document, check_contents(config)))
    for path, secret in config.secrets():
        line, column = document.position(path)
        secret.where = f"{document.file}:{line}:{column}: {show_path(path)}"
        unread += _placed(document, _secret(path, secret.problem(), "set it before `mailcanary run`"))
        loose += _placed(
            document, _secret(path, secret.warning(), "chmod 600, or 640 with a group of its own")
        )
    if wrong or (unread and require_secrets):
        raise ConfigInvalid([*wrong, *(unread if require_secrets else ())])
    loose += _placed(document, advise(config))
    config._path = Path(document.file)
    config._hash = _hash(config, document.root)
    config._warnings = tuple(sorted({*unread, *loose}))
    return config


def _secret(path: tuple[str | int, ...], what: str | None, right: str) -> Iterator[Finding]:
    if what is not None:
        yield Finding(path, what, right)


def _hash(config: Config, root: Node) -> str:
    """Of the settings as written (order of keys and comments aside) and the files they name; no secrets."""
    hidden = {path for path, secret in walk_secrets(config, ()) if secret.kind == "plain"}
    said = _masked(root, (), hidden)
    if isinstance(said.get("agent"), dict):
        said["agent"] = {key: value for key, value in said["agent"].items() if key not in OWN}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for file in _files(config):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _masked(node: Node, path: tuple[str | int, ...], hidden: set[tuple[str | int, ...]]) -> Any:
    if path in hidden:
        return "hidden"
    if node.kind == "mapping":
        return {key: _masked(entry.value, (*path, key), hidden) for key, entry in node.entries.items()}
    if node.kind == "list":
        return [_masked(item, (*path, index), hidden) for index, item in enumerate(node.items)]
    return node.text


def _files(config: Config) -> Iterator[Path]:
    for sender in config.senders.values():
        if sender.template:
            yield sender.template
    if config.blocklists and config.blocklists.catalogue:
        yield config.blocklists.catalogue
