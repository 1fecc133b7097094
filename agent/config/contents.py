"""Whether the files a config names hold what they should: keys, templates, CA files, zone catalogues."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from agent.config.checks import Finding
from agent.config.mail import Mailbox, Sender
from agent.config.models import Config
from probes.errors import ConfigError, DataError

Where = tuple[str | int, ...]


def check_contents(config: Config) -> Iterator[Finding]:
    """Everything that is wrong inside of the files. What cannot be read now is not told here."""
    for name, sender in config.senders.items():
        yield from _template(("senders", name), name, sender)
        yield from _dkim_key(("senders", name, "dkim", "key"), sender)
        if sender.relay:
            yield from _ca_file(("senders", name, "relay", "ca_file"), sender.relay.ca_file)
    for path, mailbox in _mailboxes(config):
        yield from _ca_file((*path, "imap", "ca_file"), mailbox.imap.ca_file)
    yield from _catalogue(config)


def _mailboxes(config: Config) -> Iterator[tuple[Where, Mailbox]]:
    for name, seed in config.seeds.items():
        yield ("seeds", name), seed
    if config.bounces:
        yield ("bounces",), config.bounces


def _template(path: Where, name: str, sender: Sender) -> Iterator[Finding]:
    if sender.template is None and not sender.headers:
        return
    from probes.canary.message import MessageTemplate

    unsubscribe = sender.list_unsubscribe
    urls = [url for url in (unsubscribe.url, unsubscribe.mailto) if url] if unsubscribe else []
    try:
        MessageTemplate.compile(
            from_address=sender.from_,
            sender=name,
            template=sender.template,
            headers=sender.headers,
            list_unsubscribe=urls,
            one_click=bool(unsubscribe and unsubscribe.one_click),
        )
    except (ConfigError, DataError) as error:
        key = "template" if sender.template else "headers"
        yield Finding(
            (*path, key),
            _detail(error, sender.template),
            "correct it, or leave it out for the built-in message",
        )


def _dkim_key(path: Where, sender: Sender) -> Iterator[Finding]:
    if sender.dkim is None or sender.dkim.key.problem() is not None:
        return
    from probes.authentication.sign import load_key

    try:
        load_key(sender.dkim.key.reveal().encode())
    except ConfigError as error:
        yield Finding(path, _detail(error), "name an RSA or ed25519 key in PEM form")


def _ca_file(path: Where, file: Path | None) -> Iterator[Finding]:
    if file is None:
        return
    try:
        ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError):
        yield Finding(
            path, "the file holds no certificate that can be read", "name a PEM file of CA certificates"
        )


def _catalogue(config: Config) -> Iterator[Finding]:
    file = config.blocklists.catalogue if config.blocklists else None
    if file is None:
        return
    from probes.blocklists.catalogue import parse_catalogue

    try:
        parse_catalogue(file.read_text(encoding="utf-8"), file.name)
    except (OSError, UnicodeDecodeError):
        yield Finding(
            ("blocklists", "catalogue"), "the file cannot be read as UTF-8 text", "save it as UTF-8"
        )
    except ConfigError as error:
        yield Finding(
            ("blocklists", "catalogue"), _detail(error), "write zones as the shipped catalogue does"
        )


def _detail(error: ConfigError | DataError, file: Path | None = None) -> str:
    """What the error says, the file by its name alone: the setting's own place names it already."""
    text = error.detail or str(error)
    return text.replace(str(file), file.name) if file else text
