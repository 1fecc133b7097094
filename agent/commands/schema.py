"""`mailcanary schema`: JSON Schema of the config file."""

from __future__ import annotations

import argparse
import json
import sys

NAME = "schema"
HELP = "print the JSON Schema of the config file, for editors"
DESCRIPTION = """\
Prints the JSON Schema (draft 2020-12) of the config file. Editors complete and explain settings with it.

  mailcanary schema > mailcanary.schema.json

Then make this the first line of the config file (yaml-language-server: VS Code, Neovim, Helix, ...):

  # yaml-language-server: $schema=mailcanary.schema.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Takes no arguments."""


def run(args: argparse.Namespace) -> int:
    """Prints the schema. Exit code 0."""
    from agent.config.schema import json_schema

    sys.stdout.write(json.dumps(json_schema(), indent=2) + "\n")
    return 0
