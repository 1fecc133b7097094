"""Good files: what the models hold, how YAML is read, what the hash and the warnings say."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.config.load import load, parse
from agent.config.models import Config, Route
from agent.config.problems import ConfigInvalid

TEN_LINES = """\
senders:
  app:
    from: "Acme <noreply@acme.example>"
    relay: {host: smtp.acme.example, username: canary, password: {env: SMTP_PASSWORD}}
seeds:
  gmail-1:
    provider: gmail
    address: acme.seed1@gmail.com
    password: {file: gmail-1.password}
"""
ENV = {"SMTP_PASSWORD": "sentinel-smtp"}


def config_of(text: str, file: str = "mail.yaml") -> Config:
    return parse(text.encode(), file, ENV)


def test_ten_lines_are_enough() -> None:
    config = config_of(TEN_LINES)
    sender, seed = config.senders["app"], config.seeds["gmail-1"]
    assert (sender.address, sender.name, sender.domain) == ("noreply@acme.example", "Acme", "acme.example")
    assert (sender.envelope_from, sender.kind) == ("noreply@acme.example", "relay")
    assert sender.relay is not None
    assert (sender.relay.port, sender.relay.security) == (465, "tls")
    assert seed.imap.host is None
    assert config.routes_resolved == (Route("app", "gmail-1", 900.0, 600.0, 259200.0),)
    assert config.routes_resolved[0].name == "app/gmail-1"
    assert (config.agent.listen_host, config.agent.listen_port) == ("127.0.0.1", 9465)


@pytest.mark.parametrize(("security", "port"), [("tls", 465), ("starttls", 587)])
def test_the_port_follows_the_security(security: str, port: int) -> None:
    config = config_of(TEN_LINES.replace("username:", f"security: {security}, username:"))
    assert config.senders["app"].relay is not None
    assert config.senders["app"].relay.port == port


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "mail.yaml").write_text(TEN_LINES + "agent: {store: 'sqlite:///data/x.db'}\n")
    (folder / "gmail-1.password").write_text("sentinel-gmail\n")
    monkeypatch.chdir(tmp_path)
    config = load("etc/mail.yaml", ENV)
    password = config.seeds["gmail-1"].password
    assert password is not None
    assert password.reveal() == "sentinel-gmail"
    assert config.store_url == f"sqlite:///{folder}/data/x.db"
    assert config.base == Path("etc")


@pytest.mark.parametrize("word", ["no", "on", "1e3", "007", "1_000", "null-ish", "12:30"])
def test_text_stays_what_was_written(word: str) -> None:
    config = config_of(TEN_LINES.replace("username: canary", f"username: {word}"))
    assert config.senders["app"].relay is not None
    assert config.senders["app"].relay.username == word


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("true", True), ("no", False), ("off", False)])
def test_truth_values_where_they_are_wanted(word: str, value: bool) -> None:
    text = TEN_LINES + f"alerts:\n  receivers: {{a: {{apprise: [{{env: A}}], send_resolved: {word}}}}}\n"
    assert config_of(text).alerts.receivers["a"].send_resolved is value


def test_a_key_with_nothing_behind_it_is_left_out() -> None:
    config = config_of(TEN_LINES + "limits:\nblocklists:\nresolver: {timeout: }\n")
    assert config.blocklists is None
    assert config.limits.in_flight == 16
    assert config.resolver.timeout == 3.0


def test_anchors_and_merges() -> None:
    text = TEN_LINES.replace("  app:", "  app: &base").replace(
        "seeds:", "  two:\n    <<: *base\n    from: two@acme.example\nseeds:"
    )
    config = config_of(text + "routes: [{every: 20m}]\n")
    assert config.senders["two"].address == "two@acme.example"
    assert config.senders["two"].relay == config.senders["app"].relay


def test_byte_order_mark_and_windows_lines() -> None:
    data = b"\xef\xbb\xbf" + TEN_LINES.replace("\n", "\r\n").encode()
    assert parse(data, "mail.yaml", ENV).senders["app"].name == "Acme"


def test_immutable() -> None:
    config = config_of(TEN_LINES)
    with pytest.raises(ValidationError):
        config.senders["app"].region = "eu"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        config.agent = config.agent  # type: ignore[misc]


def test_routes_left_out_in_part() -> None:
    text = TEN_LINES + (
        "  gmail-2: {provider: gmail, address: b@gmail.com, password: {env: P}}\n"
        "routes:\n  - {seeds: [gmail-1], every: 1h}\n  - {seeds: [gmail-2], deadline: 5m, late_after: 1d}\n"
    )
    assert config_of(text).routes_resolved == (
        Route("app", "gmail-1", 3600.0, 600.0, 259200.0, 0),
        Route("app", "gmail-2", 900.0, 300.0, 86400.0, 1),
    )


def test_the_hash_is_of_the_content() -> None:
    base = config_of(TEN_LINES).hash
    assert config_of("# a comment\n" + TEN_LINES).hash == base
    assert config_of(TEN_LINES.replace("provider: gmail", "provider:   'gmail'")).hash == base
    assert config_of(TEN_LINES + "limits: {in_flight: 3}\n").hash != base


def test_the_hash_covers_the_template(tmp_path: Path) -> None:
    (tmp_path / "canary.eml").write_text("Subject: a\n\na\n")
    text = TEN_LINES.replace("    relay:", "    template: canary.eml\n    relay:")
    first = config_of(text, str(tmp_path / "mail.yaml")).hash
    (tmp_path / "canary.eml").write_text("Subject: b\n\nb\n")
    assert config_of(text, str(tmp_path / "mail.yaml")).hash != first


def test_the_hash_does_not_hold_a_plain_secret() -> None:
    text = TEN_LINES.replace("{file: gmail-1.password}", "PLAIN") + "agent: {allow_plain_secrets: true}\n"
    assert config_of(text.replace("PLAIN", "one")).hash == config_of(text.replace("PLAIN", "two")).hash


def test_secrets_that_are_not_there_warn_or_fail() -> None:
    config = config_of(TEN_LINES)
    (warning,) = config.warnings
    assert str(warning).startswith("mail.yaml:9:15: seeds.gmail-1.password: {file: ")
    assert str(warning).endswith("cannot be read: No such file or directory; set it before `mailcanary run`")
    with pytest.raises(ConfigInvalid) as caught:
        parse(TEN_LINES.encode(), "mail.yaml", ENV, require_secrets=True)
    assert caught.value.problems == config.warnings


WARNED = [
    (
        "direct: {helo: mta1.acme.example}",
        "senders.app: its mail leaves without a DKIM signature; add `dkim:`",
    ),
    ("relay: {host: smtp.acme.example}", "senders.app.relay: no login to the relay; add `username:`"),
]


@pytest.mark.parametrize(("way", "words"), WARNED)
def test_advice_about_senders(way: str, words: str) -> None:
    config = config_of(f"senders:\n  app:\n    from: a@acme.example\n    {way}\n")
    assert words in "\n".join(map(str, config.warnings))
    assert "mail.yaml:1:1: senders: there are no seeds, so no canary is sent" in str(config.warnings[0])


def test_advice_about_what_nothing_uses() -> None:
    text = TEN_LINES + (
        "  gmail-2: {provider: gmail, address: b@gmail.com, password: {env: SMTP_PASSWORD}}\n"
        "routes: [{seeds: [gmail-1]}]\n"
        "bounces: {address: b@acme.example, password: {env: SMTP_PASSWORD}, imap: {host: acme.example}}\n"
        "alerts:\n  receivers: {a: {apprise: [{env: SMTP_PASSWORD}]}, b: {apprise: [{env: SMTP_PASSWORD}]}}\n"
        "  routes: [{receivers: [a]}]\n"
    )
    told = "\n".join(map(str, config_of(text).warnings))
    assert "mail.yaml:10:3: seeds.gmail-2: no route uses it" in told
    assert "mail.yaml:12:20: bounces.address: no sender's return path leads here" in told
    assert "mail.yaml:14:53: alerts.receivers.b: no route leads to this receiver" in told


def test_a_config_without_mail() -> None:
    config = config_of("blocklists: {}\n")
    assert config.routes_resolved == ()
    assert config.blocklists is not None
    assert config.blocklists.subjects.from_senders
