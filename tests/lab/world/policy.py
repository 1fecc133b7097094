"""Rules for what an MX answers to a recipient, and the tokens of the OAuth2 server: the test's side of
helpers.py."""

import json
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from .layout import Daemon, Layout

HELPERS: Final = Path(__file__).with_name("helpers.py")
Stage = Literal["rcpt", "end"]


def helpers(layout: Layout) -> Daemon:
    """The process that serves the policies and the tokens."""
    for host in ("relay", "a", "b"):
        _write(layout.root / f"rules-{host}.json", {})
    _write(layout.root / "tokens.json", {"access": {}, "refresh": {}})
    argv = (sys.executable, "-I", "-S", str(HELPERS), str(layout.root), layout.ip("oauth"))
    listens = tuple(f"{layout.run}/policy-{host}" for host in ("relay", "a", "b"))
    return Daemon("helpers", argv, (*listens, f"{layout.ip('oauth')}:8060"))


def _write(path: Path, value: Mapping[str, Any]) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(value))
    scratch.replace(path)


class Policy:
    """What one Postfix does with mail for a recipient ("*": for all who have no rule of their own)."""

    def __init__(self, layout: Layout, host: str) -> None:
        self._path = layout.root / f"rules-{host}.json"
        self._rules: dict[str, list[dict[str, Any]]] = {}

    def _set(self, recipient: str, rule: dict[str, Any]) -> None:
        self._rules[recipient.lower()] = [rule]
        _write(self._path, self._rules)

    def rule(self, recipient: str, action: str, stage: Stage = "rcpt") -> None:
        """A Postfix access(5) action: "451 4.7.1 text", "550 5.7.26 text", "DISCARD", "HOLD", ...; at RCPT
        or after DATA."""
        self._set(recipient, {"kind": "action", "action": action, "stage": stage})

    def delay(self, recipient: str, seconds: float, stage: Stage = "rcpt") -> None:
        """Answers RCPT (or the final dot) so much later."""
        self._set(recipient, {"kind": "delay", "seconds": seconds, "stage": stage})

    def greylist(self, recipient: str, seconds: float) -> None:
        """451 until so long after the first try of the same client, sender and recipient."""
        self._set(recipient, {"kind": "greylist", "seconds": seconds, "stage": "rcpt"})

    def bounce_after_accept(self, recipient: str, text: str = "5.1.1 no such user here") -> None:
        """Accepts the message, then returns a DSN with this enhanced code and text to the return path."""
        self.rule(recipient, f"FILTER error:{text}")

    def clear(self, recipient: str = "*") -> None:
        """Takes a recipient's rule away."""
        if self._rules.pop(recipient.lower(), None) is not None:
            _write(self._path, self._rules)

    def reset(self) -> None:
        """No rules."""
        if self._rules:
            self._rules.clear()
            _write(self._path, self._rules)


class OAuthTokens:
    """Access and refresh tokens that Dovecot's XOAUTH2 accepts."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.root / "tokens.json"
        self._access: dict[str, str] = {}
        self._refresh: dict[str, str] = {}
        self.token_url = f"http://{layout.ip('oauth')}:8060/token"

    def _publish(self) -> None:
        _write(self._path, {"access": self._access, "refresh": self._refresh})

    def mint(self, user: str) -> str:
        """A new valid access token for a mailbox."""
        token = secrets.token_urlsafe(24)
        self._access[token] = user
        self._publish()
        return token

    def revoke(self, token: str) -> None:
        """Makes an access or refresh token worthless."""
        self._access.pop(token, None)
        self._refresh.pop(token, None)
        self._publish()

    def refresh_token(self, user: str) -> str:
        """A refresh token; `token_url` gives a valid access token of the mailbox for it."""
        token = f"refresh-{secrets.token_urlsafe(24)}"
        self._refresh[token] = self.mint(user)
        self._publish()
        return token
