"""`mailcanary resume`: ends a pause."""

from __future__ import annotations

import argparse

from agent.commands.pause import switch

NAME = "resume"
HELP = "end a pause"
DESCRIPTION = "Ends `mailcanary pause`: sending goes on with each route's next turn."


def configure(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(args: argparse.Namespace) -> int:
    """Clears the switch."""
    return switch(args, paused=False)
