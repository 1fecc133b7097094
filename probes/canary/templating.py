"""Where a canary's content comes from: the built-in template, the user's Jinja2 file, or the user's raw .eml.

A Jinja2 file has blocks `subject`, `text` and `html`; one without blocks is the HTML part (`.html`, `.htm`,
also with `.j2` behind) or the text part, and the other is derived. It sees `token`, `to`, `message_id`,
`date`, `sender`, `from_address`, `from_name` and the sender's own variables; the first four are put in for
each canary, so filters and conditions do not work on them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from probes.canary.mime import SLOTS, has_mark, mark, marks_intact
from probes.errors import ConfigError

DEFAULT_SUBJECT = "Mail delivery canary"
_RENDERED_MAXIMUM = 1024 * 1024
_BUILTIN = "builtin.j2"
_CLOSING = re.compile(r"</body\s{0,8}>|</html\s{0,8}>", re.IGNORECASE)
_HTML_SUFFIXES = (".html", ".htm", ".html.j2", ".htm.j2")


@dataclass(frozen=True, slots=True)
class Content:
    """Subject and the two parts of a message, with marks. subject: "" where the template names none."""

    subject: str
    text: str
    html: str


def _environment(loader: jinja2.BaseLoader, *, escape: bool) -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        loader=loader, autoescape=escape, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )


def _line_of(template: jinja2.Template, trace: TracebackType | None) -> int:
    """The template's line where a run-time error was raised, 0 where none can be told."""
    line = 0
    while trace is not None:
        if trace.tb_frame.f_globals.get("__jinja_template__") is template:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line


def _load_error(path: str, error: Exception) -> ConfigError:
    """What is wrong with a file that cannot be loaded."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return ConfigError(f"{error.filename or path}:{error.lineno}: {error.message}")
    if isinstance(error, jinja2.TemplateNotFound):
        return ConfigError(f"{path}: no such template file: {error.name}")
    return ConfigError(f"{path}: {error}")


def _pieces(template: jinja2.Template, block: str | None, variables: Mapping[str, Any]) -> Iterator[str]:
    """The output of a block, or of the whole, piece by piece."""
    context = template.new_context(dict(variables))
    return template.blocks[block](context) if block else template.root_render_func(context)


def _render(path: str, template: jinja2.Template, block: str | None, variables: Mapping[str, Any]) -> str:
    """A block, or the whole; cut off where it grows without end. Raises ConfigError with the line."""
    out: list[str] = []
    size = 0
    try:
        for piece in _pieces(template, block, variables):
            size += len(piece)
            if size > _RENDERED_MAXIMUM:
                raise ConfigError(f"{path}: the template gives more than {_RENDERED_MAXIMUM} characters")
            out.append(piece)
    except (jinja2.TemplateSyntaxError, jinja2.TemplateNotFound) as error:
        raise _load_error(path, error) from error
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        line = _line_of(template, error.__traceback__)
        raise ConfigError(f"{path}:{line}: {error}" if line else f"{path}: {error}") from error
    return "".join(out)


def _checked(path: str, text: str) -> str:
    if not marks_intact(text):
        names = ", ".join(SLOTS)
        raise ConfigError(f"{path}: {names} are put in for each canary: no filter or slice works on them")
    return text


def _load(loader: jinja2.BaseLoader, name: str, path: str, variables: Mapping[str, Any]) -> Content:
    values = {**variables, **{slot: mark(slot) for slot in SLOTS}}
    try:
        plain = _environment(loader, escape=False).get_template(name)
        rich = _environment(loader, escape=True).get_template(name)
    except (jinja2.TemplateError, ValueError, OSError) as error:
        raise _load_error(path, error) from error
    if not {"subject", "text", "html"} & set(plain.blocks):
        return _whole(path, rich if name.lower().endswith(_HTML_SUFFIXES) else plain, values)
    subject = _render(path, plain, "subject", values) if "subject" in plain.blocks else ""
    text = _render(path, plain, "text", values) if "text" in plain.blocks else ""
    page = _render(path, rich, "html", values) if "html" in rich.blocks else ""
    return _completed(path, " ".join(subject.split()), text, page)


def _whole(path: str, template: jinja2.Template, values: Mapping[str, Any]) -> Content:
    """A file without blocks is one part."""
    is_html = (template.name or "").lower().endswith(_HTML_SUFFIXES)
    body = _render(path, template, None, values)
    return _completed(path, "", "" if is_html else body, body if is_html else "")


def _completed(path: str, subject: str, text: str, page: str) -> Content:
    """Derives the part that is missing and puts the token where a part has none."""
    for piece in (subject, text, page):
        _checked(path, piece)
    if not (text.strip() or page.strip()):
        raise ConfigError(f"{path}: neither a text nor an HTML part")
    text = text if text.strip() else text_of(page)
    page = page if page.strip() else page_of(text)
    return Content(subject, text_with_token(text), page_with_token(page))


def builtin(variables: Mapping[str, Any]) -> Content:
    """The template that comes with the program."""
    source = (resources.files("probes.canary") / "templates" / _BUILTIN).read_text("utf-8")
    return _load(jinja2.DictLoader({_BUILTIN: source}), _BUILTIN, _BUILTIN, variables)


def from_file(path: Path, variables: Mapping[str, Any]) -> Content:
    """The user's Jinja2 file; it may include others beside it. Raises ConfigError with file and line."""
    loader = jinja2.FileSystemLoader(str(path.parent), encoding="utf-8")
    return _load(loader, path.name, str(path), variables)


def text_with_token(text: str) -> str:
    """Plain text that shows the token."""
    return text if has_mark(text, "token") else f"{text.rstrip()}\n\n[{mark('token')}]\n"


def page_with_token(page: str) -> str:
    """HTML that shows the token, at its end where it does not already."""
    if has_mark(page, "token"):
        return page
    shown = f"<p><small>[{mark('token')}]</small></p>\n"
    closing = list(_CLOSING.finditer(page))
    position = closing[0].start() if closing else len(page)
    return page[:position] + shown + page[position:]


def page_of(text: str) -> str:
    """Plain text as a page."""
    body = html.escape(text.strip()).replace("\n", "<br>\n")
    return f'<!DOCTYPE html>\n<html><head><meta charset="utf-8"></head>\n<body><p>{body}</p></body></html>\n'


class _Words(HTMLParser):
    """The words of a page, a line a block."""

    _BLOCKS = frozenset({"p", "br", "div", "tr", "li", "h1", "h2", "h3", "h4", "table", "ul", "ol"})
    _SILENT = frozenset({"script", "style", "title", "head"})

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[list[str]] = [[]]
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._depth += tag in self._SILENT
        if tag in self._BLOCKS:
            self.lines.append([])

    def handle_endtag(self, tag: str) -> None:
        self._depth = max(0, self._depth - (tag in self._SILENT))
        if tag in self._BLOCKS:
            self.lines.append([])

    def handle_data(self, data: str) -> None:
        if not self._depth:
            self.lines[-1] += data.split()


def text_of(page: str) -> str:
    """The words of a page as plain text."""
    parser = _Words()
    parser.feed(page)
    parser.close()
    return "\n".join(" ".join(words) for words in parser.lines if words) + "\n"
