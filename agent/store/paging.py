"""Queries whose answer may be far longer than what is wanted of it: read a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

PAGE = 2_000
"""Rows that are looked at in one query: of thousands that came due, few may be the asker's."""


def pages(
    conn: Connection, query: sa.Select[Any], behind: Callable[[Any], sa.ColumnElement[bool]]
) -> Iterator[Any]:
    """The rows of a query that is in a total order; no more pages are read than are wanted. behind: what
    comes after a row."""
    rows = conn.execute(query.limit(PAGE)).all()
    while rows:
        yield from rows
        rows = conn.execute(query.where(behind(rows[-1])).limit(PAGE)).all() if len(rows) == PAGE else []
