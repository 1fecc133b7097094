"""Authentication-Results (RFC 8601), ARC-Authentication-Results (RFC 8617) and Received-SPF (RFC 7208
section 9.1).

The grammar is read as providers write it: no authserv-id (Microsoft), the whole value as RFC 2047 encoded
words, a trailing semicolon, unquoted values with slashes and colons, comments anywhere, policy inside
comments. Structure is kept, departures from the standard are named in `defects`, nothing raises, and every
character is looked at a bounded number of times.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from probes.headers.scan import decode_words

MAX_TEXT = 32 * 1024
MAX_RESULTS = 200
MAX_DEFECTS = 200

_new = tuple.__new__  # what NamedTuple's constructor does, at half its cost
HALF_QUOTED = "half a quotation in a comment"

_SPF = frozenset(("none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror"))
REGISTERED: dict[str, frozenset[str]] = {
    "dkim": _SPF - {"softfail"},
    "spf": _SPF | {"hardfail"},
    "dmarc": frozenset(("none", "pass", "fail", "temperror", "permerror")),
    "arc": frozenset(("none", "pass", "fail")),
}
"""Registered results (RFC 8601 section 2.7, RFC 7489 section 11.1, RFC 8617 section 10.1). Others are kept
as they come."""

_FLAT = re.compile(r"\(([^()]*+)\)")
_ITS_NAME = re.compile(r"\s*+([A-Za-z0-9][\w.-]*+)(?:\s++(\d{1,6}))?\s*+", re.ASCII)
_ITS_RESULT = re.compile(r"([A-Za-z][\w-]*+)=([A-Za-z0-9_][\w-]*+)", re.ASCII)
_ITS_KEY = re.compile(r"([A-Za-z][\w-]*+)\.([A-Za-z0-9_][\w.-]*+)", re.ASCII)
_RESULT = re.compile(r"([A-Za-z0-9_][\w-]*)\s*=\s*([A-Za-z0-9_][\w.-]*)(?=[\s;(]|$)")
_PROPERTY = re.compile(
    r"([A-Za-z][\w-]*)(?:\s*\.\s*([A-Za-z0-9_][\w.-]*))?\s*=\s*"
    r"(?!(?:smtp|header|body|policy)\.[\w-]+\s*=)"
    r"(?:\"((?:[^\"\\]|\\.)*+)\"(?!@)|([^\s;()\"]++)(?=[\s;(]|$))?"
)
_WORD = re.compile(r"[\w-]+")
_DOTTED = re.compile(r"[\w.-]+")
_VALUE = re.compile(  # bounds: a quotation may begin in many places and end in none
    r"(?:\"[^\"\\]{0,1000}+(?:\\.[^\"\\]{0,1000}+){0,20}+\"|[^\s;()\"])++"
)
_ID = re.compile(r"\"((?:[^\"\\]|\\.)*+)\"|[^\s;()=\"]++")
_VERSION = re.compile(r"\d+")
_INSTANCE = re.compile(r"\s*i\s*=\s*(\d{1,3})\s*(?:;|$)")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_FLAT_COMMENT = re.compile(r"\(([^()\\]*+)\)")
_COMMENT_MARK = re.compile(r"[()\\]")
_GAP = re.compile(r"\s*")
_POLICY = re.compile(r"\b(p|sp|np|dis|pct|t|d|arc)=([A-Za-z0-9_.]+)")


class Property(NamedTuple):
    """One propspec: `smtp.mailfrom=x` is type "smtp", name "mailfrom"; Microsoft's bare `action=none` has
    type ""."""

    type: str
    name: str
    value: str

    @property
    def key(self) -> str:
        """The name as written on the wire, e.g. "smtp.mailfrom"."""
        return f"{self.type}.{self.name}" if self.type else self.name


class MethodResult(NamedTuple):
    """One resinfo: method, its version, result (lower case), reason, properties in order, comments in
    order."""

    method: str
    version: int
    result: str
    reason: str | None
    properties: tuple[Property, ...]
    comments: tuple[str, ...]

    def get(self, key: str) -> str | None:
        """The value of the first property of that name ("header.from"), or None."""
        for kind, name, value in self.properties:
            if (f"{kind}.{name}" if kind else name) == key:
                return value
        return None

    @property
    def policy(self) -> dict[str, str]:
        """What comments say of policy, lower case: `dmarc=pass (p=REJECT sp=NONE dis=NONE)` gives p, sp,
        dis."""
        found: dict[str, str] = {}
        for comment in self.comments:
            for key, value in _POLICY.findall(comment[:1000]):
                found.setdefault(key, value.lower())
        return found


class AuthenticationResults(NamedTuple):
    """One header. authserv_id is "" where none is written; instance is the `i=` of an ARC set, else None."""

    authserv_id: str
    version: int
    methods: tuple[MethodResult, ...]
    comments: tuple[str, ...]
    defects: tuple[str, ...]
    instance: int | None = None


def parse_authentication_results(text: str, *, arc: bool = False) -> AuthenticationResults:
    """Reads the value of one field. `arc`: it is an ARC-Authentication-Results, which starts with `i=n;`.

    Never raises; what could not be read is left out and told in `defects`.
    """
    found = _usual(text, arc) or _Reader(text, arc).read()
    if '"' in text and any(half_quoted(one) for result in found.methods for one in result.comments):
        return found._replace(defects=(*found.defects, HALF_QUOTED))
    return found


def half_quoted(comment: str) -> bool:
    """Whether a quotation begins in the comment and does not end there: a parenthesis inside a quoted local
    part has closed it early, and what follows may be the sender's own words."""
    return comment.count('"') % 2 == 1


def _usual(text: str, arc: bool) -> AuthenticationResults | None:
    """What most providers write, cut at its signs, at a quarter of the cost; None for everything with a turn
    of its own. What it reads, `_Reader` reads likewise."""
    if "\\" in text or "?" in text or not text.isascii() or len(text) > MAX_TEXT:
        return None
    instance: int | None = None
    if arc:
        found = _INSTANCE.match(text)
        if found is None:
            return None
        instance, text = int(found[1]), text[found.end() :]
    name, _, rest = text.partition(";")
    head = _authserv(name)
    if head is None or rest.count(";") > MAX_RESULTS // 2:
        return None
    methods: list[MethodResult] = []
    words: list[str] = []
    comments: list[str] = []
    quoted = '"' in rest
    pieces = _FLAT.split(rest)
    if not rest.count("(") == rest.count(")") == len(pieces) // 2:
        return None
    for number, piece in enumerate(pieces):
        if number & 1:
            if not words:
                return None
            comments.append(piece)
            continue
        first, *more = piece.split(";")
        words += first.split()
        for item in more:
            one = _method(words, comments, quoted)
            if one is None:
                return None
            methods.append(one)
            words, comments = item.split(), []
    if words:
        one = _method(words, comments, quoted)
        if one is None:
            return None
        methods.append(one)
    elif not methods:
        return None
    defects = () if words else ("trailing semicolon",)
    return _new(AuthenticationResults, (*head, tuple(methods), (), defects, instance))


def _method(words: list[str], comments: list[str], quoted: bool) -> MethodResult | None:
    """One resinfo in words: `dkim=pass`, then its properties; None where one of them is something else."""
    if not words:
        return None
    stated = _RESULTS[words[0]]
    if stated is None:
        return None
    keys = _KEYS
    properties: list[Property] = []
    for word in words[1:]:
        key, _, value = word.partition("=")
        pair = keys[key]
        if pair is None or not value:
            return None
        if quoted and '"' in value:
            if len(value) < 2 or value[0] != '"' or value.find('"', 1) != len(value) - 1:
                return None
            value = value[1:-1]
        kind, name = pair
        properties.append(_new(Property, (kind, name, value)))
    method, result = stated
    return _new(MethodResult, (method, 1, result, None, tuple(properties), tuple(comments)))


@lru_cache(512)
def _authserv(text: str) -> tuple[str, int] | None:
    """authserv-id and version, where nothing else is written there."""
    found = _ITS_NAME.fullmatch(text) if len(text) < 256 else None
    return None if found is None else (found[1], int(found[2] or 1))


class _Words(dict[str, tuple[str, str] | None]):
    """Words that hardly differ from message to message, cut in two, in lower case; None for what is no such
    word. Kept, as far as they are short and few."""

    def __init__(self, cut: Callable[[str], tuple[str, str] | None]) -> None:
        super().__init__()
        self.cut = cut

    def __missing__(self, word: str) -> tuple[str, str] | None:
        found = self.cut(word)
        if len(word) <= 80:
            if len(self) >= 2048:
                self.clear()
            self[word] = found
        return found


def _cut_result(word: str) -> tuple[str, str] | None:
    """`dkim=pass`; a result that is not registered has a defect to be told, which is not usual."""
    found = _ITS_RESULT.fullmatch(word)
    if found is None:
        return None
    method, result = found[1].lower(), found[2].lower()
    return (method, result) if result in REGISTERED.get(method, (result,)) else None


def _cut_key(word: str) -> tuple[str, str] | None:
    """`header.d`"""
    found = _ITS_KEY.fullmatch(word)
    return None if found is None else (found[1].lower(), found[2].lower())


_RESULTS = _Words(_cut_result)
_KEYS = _Words(_cut_key)


class _Reader:
    """Walks once from left to right; `at` only ever grows."""

    def __init__(self, text: str, arc: bool) -> None:
        self.defects: list[str] = []
        self.methods: list[MethodResult] = []
        self.comments: list[str] = []
        self.arc = arc
        if "=?" in text:
            text = decode_words(text)
            self.fault("encoded words")
        if len(text) > MAX_TEXT:
            text = text[:MAX_TEXT]
            self.fault("too long")
        self.text = text
        self.size = len(text)
        self.at = 0

    def fault(self, what: str) -> None:
        """Notes a departure from the grammar; with too many of them the rest is left unread."""
        if len(self.defects) < MAX_DEFECTS:
            self.defects.append(what)
        else:
            self.at = self.size

    def read(self) -> AuthenticationResults:
        instance = self.read_instance() if self.arc else None
        authserv_id, version = self.read_id()
        head = tuple(self.comments)
        while self.at < self.size and len(self.methods) < MAX_RESULTS:
            self.read_resinfo()
        if not self.methods and not authserv_id:
            self.fault("nothing in it")
        return AuthenticationResults(
            authserv_id, version, tuple(self.methods), head, tuple(self.defects), instance
        )

    def read_instance(self) -> int | None:
        found = _INSTANCE.match(self.text)
        if found is None:
            self.fault("no instance")
            return None
        self.at = found.end()
        return int(found[1])

    def read_id(self) -> tuple[str, int]:
        """authserv-id [ CFWS version ], up to and with the semicolon. `method=result` first means there is
        none."""
        self.skip()
        start = self.at
        found = _ID.match(self.text, start)
        if found is None:
            if self.peek() == ";":
                self.at += 1
            self.fault("no authserv-id")
            return "", 1
        self.at = found.end()
        self.skip()
        if self.peek() in "=/" and self.at < self.size:
            self.at = start
            self.comments.clear()
            self.fault("no authserv-id")
            return "", 1
        quoted = found[1] is not None
        name = _unquote(found[1]) if quoted else found[0]
        if not quoted and not name.isascii():
            self.fault("authserv-id not ASCII")
        version = self.read_version()
        self.end_of_item("authserv-id")
        return name, version

    def read_version(self) -> int:
        found = _VERSION.match(self.text, self.at)
        if found is None:
            return 1
        self.at = found.end()
        self.skip()
        return int(found[0][:6])

    def read_resinfo(self) -> None:
        self.comments = []
        self.skip()
        if self.at >= self.size:
            self.fault("trailing semicolon")
            return
        fast = _RESULT.match(self.text, self.at)
        if fast is not None:
            method, version, result = fast[1], 1, fast[2]
            self.at = fast.end()
        else:
            slow = self.read_method()
            if slow is None:
                return
            method, version, result = slow
        properties, reason = self.read_properties()
        item = MethodResult(
            method.lower(), version, result.lower(), reason, tuple(properties), tuple(self.comments)
        )
        self.methods.append(item)
        if item.result not in REGISTERED.get(item.method, (item.result,)):
            self.fault(f"{item.method} knows no result {result[:40]!r}")

    def read_method(self) -> tuple[str, int, str] | None:
        """method [ CFWS "/" CFWS version ] CFWS "=" CFWS result, with comments anywhere; "none" alone is
        no-result."""
        method = self.word(_WORD)
        if method is None:
            self.junk("no method")
            return None
        version = 1
        if self.sign("/"):
            version = int((self.word(_VERSION) or "1")[:6])
        if not self.sign("="):
            if method.lower() != "none" or self.peek() not in ";":
                self.fault(f"no result after {method[:40]!r}")
            self.end_of_item("none")
            return None
        result = self.word(_WORD)
        if result is None:
            self.junk(f"no result after {method[:40]!r}")
            return None
        return method, version, result

    def read_properties(self) -> tuple[list[Property], str | None]:
        found: list[Property] = []
        reason: str | None = None
        text, match = self.text, _PROPERTY.match
        while True:
            self.skip()
            if self.at >= self.size:
                return found, reason
            if text[self.at] == ";":
                self.at += 1
                if self.at >= self.size:
                    self.fault("trailing semicolon")
                return found, reason
            fast = match(text, self.at)
            if fast is not None and (fast.end() == self.size or text[fast.end()] in " ;\t\r\n"):
                kind, name, quoted, plain = fast.groups()
                value = _unquote(quoted) if quoted is not None else (plain or "")
                self.at = fast.end()
            else:
                slow = self.read_property()
                if slow is None:
                    continue
                kind, name, value = slow
            if name is None:
                kind, name = "", kind
                if name.lower() == "reason":
                    reason = value
                    continue
                self.fault(f"property {name[:40]!r} without a type")
            found.append(Property(kind.lower(), name.lower(), value))

    def read_property(self) -> tuple[str, str | None, str] | None:
        kind = self.word(_WORD)
        if kind is None:
            self.junk("no property")
            return None
        name = self.word(_DOTTED) if self.sign(".") else None
        if not self.sign("="):
            self.fault(f"no value after {kind[:40]!r}")
            return None
        return kind, name, _unquote_all(self.word(_VALUE) or "")

    def word(self, pattern: re.Pattern[str]) -> str | None:
        self.skip()
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def sign(self, sign: str) -> bool:
        self.skip()
        if self.peek() != sign:
            return False
        self.at += 1
        return True

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def junk(self, why: str) -> None:
        """Steps over one thing that fits nowhere."""
        self.at += 1
        self.fault(why)

    def end_of_item(self, of: str) -> None:
        """Steps over the semicolon; what stands before it and does not belong there is a defect."""
        self.skip()
        if self.peek() == ";":
            self.at += 1
            return
        if self.at < self.size:
            self.fault(f"more after {of}")
            while self.at < self.size and self.peek() != ";":
                self.at += 1
                self.skip()
            self.at += 1

    def skip(self) -> None:
        """Steps over white space and comments, and keeps the comments."""
        text = self.text
        while True:
            found = _GAP.match(text, self.at)
            assert found is not None
            self.at = found.end()
            if self.at >= self.size:
                return
            if text[self.at] == ")":
                self.at += 1
                self.fault("a parenthesis that closes nothing")
            elif text[self.at] == "(":
                flat = _FLAT_COMMENT.match(text, self.at)
                if flat is not None:
                    self.comments.append(flat[1])
                    self.at = flat.end()
                else:
                    self.comment()
            else:
                return

    def comment(self) -> None:
        """A comment with others in it, or with quoted pairs, or without an end (it then holds all the
        rest)."""
        depth, start, at = 0, self.at + 1, self.at
        while found := _COMMENT_MARK.search(self.text, at):
            at = found.end()
            mark = found[0]
            if mark == "\\":
                at += 1
            elif mark == "(":
                depth += 1
            else:
                depth -= 1
                if depth == 0:
                    self.comments.append(self.text[start : at - 1])
                    self.at = at
                    return
        self.fault("a comment without an end")
        self.comments.append(self.text[start:])
        self.at = self.size


def _unquote(text: str) -> str:
    return _QUOTED_PAIR.sub(r"\1", text) if "\\" in text else text


def _unquote_all(text: str) -> str:
    """`"a b"@example.org` is the address it means: quotes off around a whole value, kept inside one."""
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1].replace('\\"', ""):
        return _unquote(text[1:-1])
    return text


_SPF_WORD = re.compile(r"\s*([A-Za-z]+)(?:\s*\(([^()\\]*+)\)\s*)?")
_SPF_PAIR = re.compile(r"(?<![\w.-])([A-Za-z][\w.-]*+)\s*+=\s*+(?:\"((?:[^\"\\]|\\.)*+)\"|([^\s;\"]*+))")
_SPF_PROPERTIES = {
    "envelope-from": ("smtp", "mailfrom"),
    "helo": ("smtp", "helo"),
    "client-ip": ("smtp", "remote-ip"),
}


def parse_received_spf(text: str) -> MethodResult | None:
    """A Received-SPF as if it were an `spf=` of Authentication-Results; None where it has no result word."""
    text = text[:MAX_TEXT]
    found = _SPF_WORD.match(text)
    if found is None:
        return None
    at = found.end()
    comments: tuple[str, ...] = (found[2],) if found[2] is not None else ()
    if found[2] is None or text[at : at + 1] in "()" or "=?" in text:
        reader = _Reader(text, False)
        reader.at = found.end(1)
        reader.skip()
        text, at, comments = reader.text, reader.at, tuple(reader.comments)
    properties = []
    for key, quoted, plain in _SPF_PAIR.findall(text, at):
        kind, name = _SPF_PROPERTIES.get(key) or _SPF_PROPERTIES.get(key.lower()) or ("", key.lower())
        value = _unquote(quoted) if quoted else plain.strip("<>")
        properties.append(_new(Property, (kind, name, value)))
    return _new(MethodResult, ("spf", 1, found[1].lower(), None, tuple(properties), comments))
