"""What is wrong with a config file, each at its line and column."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from probes.errors import ConfigError


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong: where (line and column count from 1), what, and what would be right."""

    file: str
    line: int
    column: int
    what: str
    right: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.what}; {self.right}"

    def as_json(self) -> dict[str, object]:
        """The problem as JSON-ready data."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "what": self.what,
            "right": self.right,
        }


class ConfigInvalid(ConfigError):
    """The configuration file is wrong."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n" + "\n".join(map(str, self.problems)))
