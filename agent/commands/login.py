"""`mailcanary login SEED`: the first OAuth2 login of a seed, with a person, once."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config.mail import OAuth2
    from agent.config.models import Config
    from agent.runner.means import Means
    from probes.mailbox.first_login import Application

NAME = "login"
HELP = "the first OAuth2 login of a seed, once, with you at the browser"
DESCRIPTION = """\
Gets a refresh token for a seed and writes it, readable by you alone (0600), into the file that the config
names as the seed's oauth2.refresh_token. The agent renews access tokens with it from then on.

Microsoft: a code to type in at a page, on any machine (device code, RFC 8628).
Google: a page to open in a browser on this machine (loopback redirect, RFC 8252); Google refuses mail
access by device code.

examples:
  mailcanary login outlook-1
  mailcanary login gmail-1             open the address it shows
  mailcanary login gmail-1 --flow device --device-url https://login.example/device
"""

FLOWS = {"google": "browser", "microsoft": "device"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The seed and how to log in."""
    parser.add_argument("seed", metavar="SEED")
    parser.add_argument("--flow", choices=("device", "browser"), help="default: what the provider allows")
    parser.add_argument("--device-url", metavar="URL", help="device authorisation endpoint of another server")
    parser.add_argument("--authorize-url", metavar="URL", help="authorisation endpoint of another server")


def run(args: argparse.Namespace) -> int:
    """Logs in. Exit code 2 where the seed has nothing to log in with, 3 where nobody answers."""
    import asyncio

    from agent.commands.common import load_config
    from agent.secrets import write_secret

    config = load_config(args)
    settings, path = _wanted(config, args.seed)
    token = asyncio.run(_log_in(config, args, settings))
    write_secret(path, token)
    print(f"{args.seed}: the refresh token is in {path}")
    print("A running agent takes it up at a reload: send it SIGHUP, or restart it.")
    return 0


def _wanted(config: Config, name: str) -> tuple[OAuth2, Path]:
    from pathlib import Path

    from probes.errors import ConfigError

    seed = config.seeds.get(name)
    if seed is None:
        raise ConfigError(f"there is no seed {name!r}; there are: {', '.join(config.seeds)}")
    if seed.oauth2 is None:
        raise ConfigError(f"seed {name} has a password and no oauth2: there is nothing to log in to")
    token = seed.oauth2.refresh_token
    if token is None or token.kind != "file":
        raise ConfigError(
            f"seed {name}: write `refresh_token: {{file: {name}.token}}` under its oauth2 first"
        )
    return seed.oauth2, Path(token.name)


async def _log_in(config: Config, args: argparse.Namespace, settings: OAuth2) -> str:
    from agent.runner.credentials import form_post
    from agent.runner.mailboxes import preset_of
    from agent.runner.means import open_means

    provider = preset_of(config.seeds[args.seed]).oauth or ""
    async with open_means(config) as means:
        if (args.flow or FLOWS.get(provider, "device")) == "device":
            return await _by_device(args, settings, provider, means)
        from probes.mailbox.first_login import loopback_login

        return await loopback_login(
            form_post(means.poster),
            _application(settings, provider),
            _url(args.authorize_url, provider, "authorize_url", settings),
            _url(settings.token_url, provider, "token_url", settings),
            lambda url: print(f"Open this in a browser on this machine:\n  {url}", flush=True),
        )


async def _by_device(args: argparse.Namespace, settings: OAuth2, provider: str, means: Means) -> str:
    from agent.forms.cells import clean
    from agent.runner.credentials import form_post
    from probes.mailbox.first_login import device_login

    return await device_login(
        form_post(means.poster),
        means.clock,
        _application(settings, provider),
        _url(args.device_url, provider, "device_url", settings),
        _url(settings.token_url, provider, "token_url", settings),
        lambda url, code: print(clean(f"Open {url} and type in the code {code}"), flush=True),
    )


def _application(settings: OAuth2, provider: str) -> Application:
    from probes.mailbox.first_login import Application
    from probes.mailbox.oauth2 import PROVIDERS

    known = PROVIDERS.get(provider)
    scope = " ".join(settings.scope) or (known.scope if known else "")
    secret = settings.client_secret.reveal() if settings.client_secret else None
    return Application(settings.client_id, scope, secret)


def _url(given: str | None, provider: str, name: str, settings: OAuth2) -> str:
    from probes.errors import ConfigError
    from probes.mailbox.oauth2 import PROVIDERS

    url = given or getattr(PROVIDERS.get(provider), name, None)
    if url is None:
        option = "oauth2.token_url" if name == "token_url" else f"--{name.replace('_', '-')}"
        raise ConfigError(f"the provider's endpoint is not known: give {option}")
    return str(url).replace("{tenant}", settings.tenant or "common")
