"""procrastinate's own schema as a step of a migration, on PostgreSQL only: the SQL that its package ships."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Connection

_REMOVE = """
DO $$
DECLARE found record;
BEGIN
    FOR found IN SELECT tablename AS name FROM pg_tables
        WHERE schemaname = current_schema() AND tablename LIKE 'procrastinate\\_%'
    LOOP EXECUTE format('DROP TABLE %I CASCADE', found.name); END LOOP;
    FOR found IN SELECT p.oid::regprocedure AS name FROM pg_proc p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.proname LIKE 'procrastinate\\_%'
    LOOP EXECUTE format('DROP FUNCTION %s CASCADE', found.name); END LOOP;
    FOR found IN SELECT t.typname AS name FROM pg_type t
        WHERE t.typnamespace = current_schema()::regnamespace AND t.typname LIKE 'procrastinate\\_%'
    LOOP EXECUTE format('DROP TYPE IF EXISTS %I CASCADE', found.name); END LOOP;
END $$
"""


def install(conn: Connection) -> None:
    """Makes its tables, types and functions."""
    if conn.dialect.name == "postgresql":
        from procrastinate.schema import SchemaManager

        _driver(conn).execute(SchemaManager.get_schema())


def remove(conn: Connection) -> None:
    """Drops them."""
    if conn.dialect.name == "postgresql":
        _driver(conn).execute(_REMOVE)


def _driver(conn: Connection) -> Any:
    """The driver's own connection: it takes many statements at once, and a percent sign as it stands."""
    return conn.connection.driver_connection
