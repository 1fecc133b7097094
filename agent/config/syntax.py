"""YAML as parser events, and what is wrong where it is none, in words that quote nothing of the file."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

_FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Stop(Exception):
    """Reading the document ends here: what, right, line, column."""

    def __init__(self, what: str, right: str, line: int, column: int) -> None:
        super().__init__(what)
        self.what, self.right, self.line, self.column = what, right, line, column


def events(text: str) -> Iterator[yaml.Event]:
    """Parser events. Errors come from the pure Python parser, so that they read the same on every machine."""
    try:
        yield from yaml.parse(text, Loader=_FAST)
    except yaml.YAMLError:
        try:
            for _ in yaml.parse(text, Loader=yaml.SafeLoader):
                pass
        except yaml.YAMLError as error:
            raise _syntax(error, text) from None
        raise Stop("not YAML", "check the indentation and the quotes", 1, 1) from None


# What PyYAML says holds bytes of the file, which may be a secret: only these words of ours are told.
_SYNTAX = (
    ("'\\t' that cannot start", "a tab where YAML wants spaces", "indent with spaces"),
    ("that cannot start any token", "a character that begins no value", "put the value in quotes"),
    (
        "mapping values are not allowed",
        "a second `:` in one line",
        "put the value in quotes, or indent it below",
    ),
    ("could not find expected ':'", "a line that is not `key: value`", "add the colon, or indent the text"),
    ("unexpected end of stream", "a quote that is never closed", "close it"),
    (
        "unknown escape character",
        "a backslash escape that YAML does not have",
        "use single quotes, or `\\\\`",
    ),
    (
        "expected <block end>",
        "the indentation does not match the lines above",
        "indent what belongs together alike",
    ),
    ("expected ',' or '}'", "a `{` that is never closed", "close it with `}`"),
    ("expected ',' or ']'", "a `[` that is never closed", "close it with `]`"),
    (
        "undefined tag handle",
        "a tag (`!`)",
        "put text that begins with `!` in quotes; tags are not used here",
    ),
)


def _syntax(error: yaml.YAMLError, text: str) -> Stop:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        column = error.position - (before.rfind("\n") + 1) + 1
        return Stop("a control character", "remove it", before.count("\n") + 1, column)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    said = str(getattr(error, "problem", None) or "")
    for sign, what, right in _SYNTAX:
        if sign in said:
            return Stop(what, right, line, column)
    return Stop("not YAML", "check the indentation and the quotes", line, column)
