"""A YAML file as a tree that knows the line and column of each key and value.

Scalars stay text: the models decide what is a number or a truth value, so that `no`, `1e3` and `007` are what
was written wherever text is wanted. Built from parser events with caps, so that depth, size and alias bombs
end in an error and not in a stall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from agent.config.problems import ConfigInvalid, Problem
from agent.config.syntax import Stop, events

Path: TypeAlias = Sequence[str | int]

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 50
MAX_NODES = 1_000_000

_STANDARD = "tag:yaml.org,2002:"
_TAGS = {None, "!", *(_STANDARD + name for name in ("str", "int", "float", "bool", "null", "map", "seq"))}
_NULLS = {"", "~", "null", "Null", "NULL"}


@dataclass(slots=True)
class Node:
    """One value. kind: scalar, list or mapping; line and column from 1; size, height: in nodes, expanded."""

    kind: str
    line: int
    column: int
    text: str | None = None
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    merges: list[Node] = field(default_factory=list)
    size: int = 1
    height: int = 1
    done: bool = False


@dataclass(slots=True)
class Entry:
    """One key of a mapping, with the key's own place."""

    line: int
    column: int
    value: Node


class Document:
    """A parsed file. Raises ConfigInvalid where it is not YAML at all; duplicate keys are in `problems`."""

    def __init__(self, file: str, data: bytes, private: frozenset[str] = frozenset()) -> None:
        """file: its name in messages; private: keys below which no key is told (they may be secrets)."""
        self.file = file
        self.problems: list[Problem] = []
        self._private = private
        try:
            self.root = _Builder(self, _text(data)).build()
        except Stop as stop:
            problem = self.problem_at(stop.line, stop.column, stop.what, stop.right)
            raise ConfigInvalid([*self.problems, problem]) from None

    def problem_at(self, line: int, column: int, what: str, right: str) -> Problem:
        """A problem of this file."""
        return Problem(self.file, line, column, _one_line(what), _one_line(right))

    def value(self) -> Any:
        """The tree as dicts, lists, text and None."""
        return plain(self.root)

    def find(self, path: Path) -> Node | None:
        """The value at the path, or None where there is none."""
        node: Node | None = self.root
        for step in path:
            node = _child(node, step) if node is not None else None
        return node

    def position(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column of the value at the path (of its key with key=True); of the nearest parent else."""
        node, at = self.root, (self.root.line, self.root.column)
        for step in path:
            child = _child(node, step)
            if child is None:
                break
            entry = node.entries.get(str(step)) if node.kind == "mapping" else None
            at = (entry.line, entry.column) if key and entry else (child.line, child.column)
            node = child
        return at

    def is_private(self, path: Path) -> bool:
        """True where the path lies at or below a secret."""
        return any(step in self._private for step in path)


def _one_line(text: str) -> str:
    """Names of the file's own may hold anything; a message is one line that a terminal may be shown."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _child(node: Node, step: str | int) -> Node | None:
    if node.kind == "mapping":
        entry = node.entries.get(str(step))
        return entry.value if entry else None
    if node.kind == "list" and isinstance(step, int) and step < len(node.items):
        return node.items[step]
    return None


def plain(node: Node) -> Any:
    """The node as dicts, lists, text and None."""
    if node.kind == "mapping":
        return {key: plain(entry.value) for key, entry in node.entries.items()}
    if node.kind == "list":
        return [plain(item) for item in node.items]
    return node.text


def _text(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise Stop(f"longer than {MAX_BYTES // 2**20} MiB", "split the seeds over several agents", 1, 1)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Stop("written in UTF-16", "save the file as UTF-8", 1, 1)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        start = before.rfind(b"\n") + 1
        column = len(before[start:].decode("utf-8", "replace")) + 1
        raise Stop("not UTF-8", "save the file as UTF-8", before.count(b"\n") + 1, column) from None


class _Builder:
    """Turns parser events into nodes without recursion."""

    def __init__(self, document: Document, text: str) -> None:
        self._document = document
        self._text = text
        self._anchors: dict[str, Node] = {}
        self._open: list[tuple[Node, _Key | None]] = []
        self._path: list[str] = []

    def build(self) -> Node:
        root: Node | None = None
        for event in events(self._text):
            if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                raise Stop("a second document begins", "keep one document in the file", *_at(event))
            node = self._take(event)
            if node is not None and not self._open:
                root = node
        if root is None:
            return Node("mapping", 1, 1)
        if root.kind == "scalar" and root.text is None:
            return Node("mapping", root.line, root.column)
        return root

    def _take(self, event: yaml.Event) -> Node | None:
        """Returns the node that the event completes, if any."""
        if isinstance(event, yaml.AliasEvent):
            return self._place(self._alias(event))
        if isinstance(event, yaml.ScalarEvent):
            _check_tag(event)
            text = None if event.implicit[0] and event.value in _NULLS else event.value
            return self._place(self._node(event, "scalar", text))
        if isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            return self._end()
        return None

    def _node(self, event: yaml.NodeEvent, kind: str, text: str | None = None) -> Node:
        node = Node(kind, *_at(event), text=text, done=kind == "scalar")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent) -> Node:
        node = self._anchors.get(str(event.anchor))
        if node is None:
            raise Stop(
                "an alias (`*`) of nothing named before",
                "put text that begins with `*` in quotes",
                *_at(event),
            )
        if not node.done:
            raise Stop("an alias inside of what it stands for", "name a value that is complete", *_at(event))
        return node

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        _check_tag(event)
        if len(self._open) >= MAX_DEPTH:
            raise _too_deep(*_at(event))
        kind = "mapping" if isinstance(event, yaml.MappingStartEvent) else "list"
        if self._open and self._open[-1][0].kind == "mapping" and self._open[-1][1] is None:
            raise Stop("a key that is not plain text", "write `key: value`", *_at(event))
        self._open.append((self._node(event, kind), None))

    def _end(self) -> Node:
        node, _ = self._open.pop()
        node.done = True
        if node.kind == "mapping":
            _merge(node)
        return self._place(node)

    def _place(self, node: Node) -> Node:
        """Puts a complete node where it belongs: as the root, an item, a key or the value of a key."""
        if not self._open:
            return node
        parent, key = self._open[-1]
        if parent.kind == "list":
            parent.items.append(node)
        elif key is None:
            self._open[-1] = (parent, _key(node))
            return node
        else:
            self._open[-1] = (parent, None)
            self._set(parent, key, node)
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if len(self._open) + node.height > MAX_DEPTH + 1:
            raise _too_deep(node.line, node.column)
        if parent.size > MAX_NODES:
            raise Stop("too large once its aliases are expanded", "use fewer aliases", node.line, node.column)
        return node

    def _set(self, parent: Node, key: _Key, value: Node) -> None:
        if key.merge:
            parent.merges.append(value)
            return
        seen = parent.entries.get(key.text)
        if seen is None:
            parent.entries[key.text] = Entry(key.line, key.column, value)
            return
        told = "" if self._inside_private() else f" `{key.text[:64]}`"
        self._document.problems.append(
            self._document.problem_at(
                key.line,
                key.column,
                f"the key{told} is given twice",
                f"keep one; the first is on line {seen.line}",
            )
        )

    def _inside_private(self) -> bool:
        return self._document.is_private([key.text for _, key in self._open if key is not None])


def _too_deep(line: int, column: int) -> Stop:
    return Stop(f"nested deeper than {MAX_DEPTH}", "nothing here goes that deep", line, column)


@dataclass(frozen=True, slots=True)
class _Key:
    text: str
    line: int
    column: int
    merge: bool


def _key(node: Node) -> _Key:
    if node.kind != "scalar":
        raise Stop("a key that is not plain text", "write `key: value`", node.line, node.column)
    return _Key(node.text or "", node.line, node.column, node.text == "<<")


def _merge(node: Node) -> None:
    """`<<: *base` (YAML 1.1 merge keys): the mapping's own keys win, then the earlier of several bases."""
    for source in node.merges:
        bases = source.items if source.kind == "list" else [source]
        for base in bases:
            if base.kind != "mapping":
                raise Stop(
                    "`<<` wants a mapping, or a list of them", "write `<<: *name`", source.line, source.column
                )
            for key, entry in base.entries.items():
                node.entries.setdefault(key, entry)


def _check_tag(event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
    if event.tag not in _TAGS:
        raise Stop(
            "a tag (`!`)", "put text that begins with `!` in quotes; tags are not used here", *_at(event)
        )


def _at(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)
