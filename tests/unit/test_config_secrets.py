"""Secrets are read where they are, and told nowhere."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import os
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest

from agent.config.alert_settings import alert_settings
from agent.config.load import parse
from agent.config.models import Config
from agent.config.problems import ConfigInvalid
from agent.config.schema import json_schema
from agent.secrets import Secret, SecretUnavailable

SENTINEL = "s3ntinel-Zq9"


@dataclasses.dataclass
class Holder:
    secret: Secret


def secret(value: Any, base: Path = Path(), **env: str) -> Secret:
    return Secret.read(value, {"base": base, "env": env, "plain": True})


def test_env() -> None:
    assert secret({"env": "A"}, A=SENTINEL).reveal() == SENTINEL


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_file_without_its_last_line_end(tmp_path: Path, end: str) -> None:
    (tmp_path / "p").write_bytes((SENTINEL + end).encode())
    assert secret({"file": "p"}, tmp_path).reveal() == SENTINEL


def test_file_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("one")
    found = secret({"file": "p"}, tmp_path)
    first = found.fingerprint()
    assert found.fingerprint() == first
    (tmp_path / "p").write_text("two")
    assert found.reveal() == "two"
    assert found.fingerprint() != first


def test_credential(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SENTINEL)
    assert secret({"credential": "token"}, CREDENTIALS_DIRECTORY=str(tmp_path)).reveal() == SENTINEL


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"env": "GONE"}, "the environment has no GONE"),
        ({"env": "EMPTY"}, "{env: EMPTY} is empty"),
        ("", "a plain secret is empty"),
        (
            {"credential": "x"},
            "{credential: x} needs CREDENTIALS_DIRECTORY, which systemd sets for LoadCredential=",
        ),
        ({"file": "/no/such"}, "{file: /no/such} cannot be read: No such file or directory"),
        ({"file": "/"}, "{file: /} cannot be read: Is a directory"),
    ],
)
def test_unavailable(value: Any, why: str) -> None:
    found = secret(value, EMPTY="")
    assert found.problem() == why
    assert found.fingerprint() == ""
    found.where = "mail.yaml:3:4: seeds.a.password"
    with pytest.raises(SecretUnavailable) as caught:
        found.reveal()
    assert str(caught.value) == f"A secret cannot be read: mail.yaml:3:4: seeds.a.password: {why}"


def test_a_named_pipe_is_refused_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert str(secret({"file": "pipe"}, tmp_path).problem()).endswith("is not a regular file")


def test_too_long_or_not_text(tmp_path: Path) -> None:
    (tmp_path / "long").write_text("x" * 65537)
    (tmp_path / "bytes").write_bytes(SENTINEL.encode() + b"\xff")
    assert str(secret({"file": "long"}, tmp_path).problem()).endswith("is longer than 64 KiB")
    found = secret({"file": "bytes"}, tmp_path)
    assert str(found.problem()).endswith("is not UTF-8")
    with pytest.raises(SecretUnavailable) as caught:
        found.reveal()
    assert SENTINEL not in "".join(traceback.format_exception(caught.value))


def test_a_file_for_everyone_warns(tmp_path: Path) -> None:
    file = tmp_path / "p"
    file.write_text(SENTINEL)
    file.chmod(0o644)
    found = secret({"file": "p"}, tmp_path)
    assert found.warning() == f"{{file: {file}}} can be read by everyone on this machine (mode 0644)"
    file.chmod(0o640)
    assert found.warning() is None


def test_plain_is_hidden_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    found = secret(SENTINEL)
    assert found.reveal() == SENTINEL
    logging.getLogger("test").warning("%s %r %s", found, found, {"a": found})
    assert SENTINEL not in f"{found}{found!r}{found.reference()}{caplog.text}"
    assert SENTINEL not in str(dataclasses.asdict(Holder(found)))
    assert copy.deepcopy(found) is found
    with pytest.raises(TypeError):
        pickle.dumps(found)


EVERYWHERE = f"""\
agent: {{allow_plain_secrets: true, token: {SENTINEL}, store_password: {SENTINEL}}}
senders:
  app:
    from: a@acme.example
    relay: {{host: smtp.acme.example, username: u, password: {SENTINEL}}}
  two:
    from: a@acme.example
    relay:
      host: smtp.acme.example
      username: u
      oauth2: {{client_id: c, client_secret: {SENTINEL}, refresh_token: {SENTINEL}}}
seeds:
  gmail-1: {{provider: gmail, address: a@gmail.com, password: {SENTINEL}}}
bounces: {{address: b@acme.example, password: {SENTINEL}, imap: {{host: imap.acme.example}}}}
blocklists: {{keys: {{zen.spamhaus.org: {SENTINEL}}}}}
alerts:
  receivers:
    a: {{slack: {{url: "https://hooks.example/{SENTINEL}"}}}}
    b: {{pagerduty: {{routing_key: {SENTINEL}}}}}
    c: {{alertmanager: {{url: "http://127.0.0.1:9093", password: {SENTINEL}}}}}
    d:
      webhook: {{url: "https://x.example/{SENTINEL}", secret: {SENTINEL}, headers: {{X-Key: {SENTINEL}}}}}
    e: {{apprise: ["mailto://{SENTINEL}@example.com"]}}
  heartbeat: {{url: "https://hc.example/{SENTINEL}"}}
"""


def config_of(text: str) -> Config:
    return parse(text.encode(), "mail.yaml", {})


def test_a_config_full_of_secrets_tells_none() -> None:
    config = config_of(EVERYWHERE)
    dumped = config.model_dump_json() + json.dumps(config.model_dump(mode="json")) + str(config.model_dump())
    assert SENTINEL not in f"{config}{config!r}{dumped}{config.hash}{config.warnings}"
    revealed = [reference.reveal() for _, reference in config.secrets()]
    assert len(revealed) == EVERYWHERE.count(SENTINEL)
    assert all(SENTINEL in text for text in revealed)
    assert alert_settings(config).receivers["d"].webhook is not None


def test_the_same_file_refused_tells_none() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        config_of(EVERYWHERE.replace("true", "false"))
    assert len(caught.value.problems) == EVERYWHERE.count(SENTINEL)
    text = "".join(traceback.format_exception(caught.value))
    assert SENTINEL not in text + json.dumps([problem.as_json() for problem in caught.value.problems])


FORMS = [
    "[{0}]",
    "{{{0}}}",
    "{{{0}: x}}",
    "{{evn: {0}}}",
    "{{env: '{0} {0}'}}",
    "{{env: A, env: {0}}}",
    "{{{0}: 1, {0}: 2}}",
    "{{credential: ../{0}}}",
    "*{0}",
    "!{0} x",
    "&a {0}",
    "@{0}",
    "'{0}",
    "x: {0}",
    "%{0}",
    "`{0}",
    '"\\q{0}"',
    "{0}: {0}: {0}",
    "|\n{0}",
    "[{0}",
    "{{{0}",
]


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_written_wrongly_is_not_told(form: str) -> None:
    text = EVERYWHERE.replace("true", "false").replace(SENTINEL, form.format(SENTINEL))
    with pytest.raises(ConfigInvalid) as caught:
        config_of(text)
    assert SENTINEL not in "".join(traceback.format_exception(caught.value))


def test_the_schema_knows_no_secret() -> None:
    config_of(EVERYWHERE)
    assert SENTINEL not in json.dumps(json_schema())
