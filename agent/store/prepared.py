"""Statements of the hot path: written with SQLAlchemy, compiled once, run on the driver's own cursor.

A canary costs a dozen statements; SQLAlchemy's way from an expression to a result costs about 100 us each,
the driver's own 5. Errors are the driver's: `Database` turns them into StoreError like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.sql.expression import ClauseElement

Row = tuple[Any, ...]


class Prepared:
    """One statement. names: its parameters, in the order in which they are given.

    Values go to the driver and come from it as they are: JSON columns are text on the way in (and may be text
    on the way out), truth values may come as 0 and 1.
    """

    def __init__(self, statement: ClauseElement, names: Sequence[str] = ()) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._compiled: dict[str, tuple[str, Callable[[Row], Any]]] = {}

    def run(self, conn: Connection, rows: Sequence[Row]) -> int:
        """Runs the statement for each row in one go. Returns the number of rows it changed."""
        sql, shape = self._for(conn)
        cursor = conn.connection.cursor()
        try:
            if len(rows) == 1:
                cursor.execute(sql, shape(rows[0]))
            else:
                cursor.executemany(sql, [shape(row) for row in rows])
            return int(cursor.rowcount)
        finally:
            cursor.close()

    def all(self, conn: Connection, *values: Any) -> list[Row]:
        """What a query finds."""
        sql, shape = self._for(conn)
        cursor = conn.connection.cursor()
        try:
            cursor.execute(sql, shape(values))
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def first(self, conn: Connection, *values: Any) -> Row | None:
        """The first row that a query finds, or None."""
        found = self.all(conn, *values)
        return found[0] if found else None

    def _for(self, conn: Connection) -> tuple[str, Callable[[Row], Any]]:
        known = self._compiled.get(conn.dialect.name)
        if known is None:
            statement: Any = self._statement
            compiled: Any = (
                statement.inline().compile(dialect=conn.dialect, column_keys=list(self._names))
                if isinstance(statement, sa.Insert)
                else statement.compile(dialect=conn.dialect)
            )
            known = self._compiled[conn.dialect.name] = (str(compiled), self._shape(compiled))
        return known

    def _shape(self, compiled: Any) -> Callable[[Row], Any]:
        """From our order to what the driver wants: its own order, or a dictionary."""
        names = self._names
        if not compiled.positional:
            return lambda row: dict(zip(names, row, strict=True))
        wanted = tuple(compiled.positiontup or ())
        if wanted == names:
            return lambda row: row
        if len(wanted) == 1:
            index = names.index(wanted[0])
            return lambda row: (row[index],)
        return itemgetter(*(names.index(name) for name in wanted))
