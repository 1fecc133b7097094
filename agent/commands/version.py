"""`mailcanary version`."""

from __future__ import annotations

import argparse

NAME = "version"
HELP = "the version, and what it runs on"
DESCRIPTION = "Prints the version of mailcanary, of Python and of the store's schema."


def configure(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(_args: argparse.Namespace) -> int:
    """Prints one line."""
    import platform

    from agent import __version__
    from agent.store.schema import head

    print(f"mailcanary {__version__} (Python {platform.python_version()}, schema {head()})")
    return 0
