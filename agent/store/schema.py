"""The schema's version: brought up to date by alembic, forwards and backwards over one release.

Agents go on working while it is done on PostgreSQL: one migrates at a time, each migration is a transaction
of its own that waits for locks only for a moment and is begun again. A migration that only adds says so
(`works_with`, the revision before it): programs of that revision work with the newer schema meanwhile.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from agent.store import rows
from agent.store.backend import Reveal
from agent.store.database import Database
from probes.errors import SchemaMismatch, StoreError

log = structlog.get_logger("store")

VERSIONS = ["agent.store:migrations/versions"]
"""Where the migrations are."""
DECLARED = "schema"
"""The setting that says what the newest migration declares: {"revision", "works_with"}."""
ONE_AT_A_TIME = 7_226_231
"""Names the advisory lock of those who migrate."""
LOCK_TIMEOUT = "1s"
"""For a table's lock: whoever comes behind in its queue waits as long."""
LOCK_PAUSE = 0.5
LOCK_TRIES = 120
NO_LOCK = "55P03"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "agent.store:migrations")
    config.set_main_option("version_locations", "\n".join(VERSIONS))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The version this program works with."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def known() -> set[str]:
    """Every version this program knows."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def current(engine: Engine) -> str | None:
    """The version the database has, or None where it is empty."""
    with engine.connect() as conn:
        return MigrationContext.configure(conn).get_current_revision()


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Migrates the database. Raises SchemaMismatch where it is newer than this program, StoreError where a
    table stays locked."""
    found = current(engine)
    if found is not None and found not in known():
        raise SchemaMismatch(f"it has {found}, which this version does not know; use a newer mailcanary")
    with _migrating(engine) as conn:
        _patiently(conn, lambda: command.upgrade(_config(conn), revision))


def downgrade(engine: Engine, revision: str) -> None:
    """Takes migrations back."""
    with _migrating(engine) as conn:
        _patiently(conn, lambda: command.downgrade(_config(conn), revision))


@contextmanager
def _migrating(engine: Engine) -> Iterator[Connection]:
    """A connection that may take its time, of the only one who migrates now."""
    with engine.connect() as conn:
        if conn.dialect.name == "postgresql":
            for name in ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"):
                conn.exec_driver_sql(f"SET {name} = 0")
            conn.exec_driver_sql(f"SELECT pg_advisory_lock({ONE_AT_A_TIME})")
            conn.exec_driver_sql(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
            conn.commit()
        try:
            yield conn
        finally:
            conn.invalidate()  # its settings and its lock go with it


def _patiently(conn: Connection, work: Callable[[], None]) -> None:
    for _ in range(LOCK_TRIES):
        try:
            work()
            conn.commit()
            return
        except sa.exc.OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != NO_LOCK:
                raise
            conn.rollback()
        time.sleep(LOCK_PAUSE)
    raise StoreError(
        "a table stays locked: is there a long transaction, a backup? Nothing was changed by this step"
    )


def declare(conn: Connection, revision: str, works_with: str) -> None:
    """Writes what a migration declares, in its own transaction."""
    rows.set_setting(conn, DECLARED, {"revision": revision, "works_with": works_with})


def make(url: str, *, password: Reveal | None = None) -> None:
    """Makes the schema in an empty database, or brings it up to date."""
    database = Database(url, password=password)
    try:
        upgrade(database.engine)
    finally:
        database.close()


def open_store(url: str, *, password: Reveal | None = None, migrate: bool = True) -> Database:
    """Opens the store; an empty or older SQLite file is brought up to date.

    password: of the PostgreSQL user, asked for at each connection; without it libpq's own means count
    (PGPASSFILE, PGSERVICE). Raises SchemaMismatch where that is not possible, StoreError where it cannot
    be opened.
    """
    try:
        database = Database(url, password=password)
        try:
            _match(database, migrate=migrate and not database.shared)
        except BaseException:
            database.close()
            raise
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise StoreError(str(getattr(error, "orig", None) or error)) from error
    return database


def _match(database: Database, *, migrate: bool) -> None:
    """Raises SchemaMismatch where this program cannot work with what is there."""
    found, wanted = current(database.engine), head()
    if found == wanted:
        return
    if found is not None and found not in known():
        if _works_with(database, found) != wanted:
            raise SchemaMismatch(f"it has {found}, which this version does not know; use a newer mailcanary")
        log.info("the store is one version newer, and works with this program", store=found, program=wanted)
    elif migrate:
        upgrade(database.engine)
    else:
        raise SchemaMismatch(
            f"it has {found or 'no schema'}, this program needs {wanted}: run `mailcanary db upgrade`"
        )


def _works_with(database: Database, revision: str) -> str | None:
    """The oldest program that the migration to the revision leaves able to work, as far as it said so."""
    declared = database.read_now(lambda conn: rows.setting(conn, DECLARED))
    return declared["works_with"] if declared and declared["revision"] == revision else None


def backup(url: str, target: Path) -> int:
    """Copies a SQLite store while agents run (online backup), mode 0600. Returns bytes written."""
    source = sa.make_url(url)
    if source.get_backend_name() != "sqlite":
        raise StoreError("db backup copies SQLite stores; use pg_dump for PostgreSQL")
    if not source.database or not Path(source.database).exists():
        raise StoreError(f"there is no store at {source.database}")
    if target.exists():
        raise StoreError(f"{target} exists already; backups are never overwritten")
    try:
        target.touch(mode=0o600)
        with (
            closing(sqlite3.connect(source.database, timeout=15)) as live,
            closing(sqlite3.connect(target)) as copy,
        ):
            live.backup(copy)
        return target.stat().st_size
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"no backup to {target}: {getattr(error, 'strerror', None) or error}") from error
