"""The schema's version: brought up to date by alembic, forwards and backwards over one release."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from agent.store.backend import Reveal
from agent.store.database import Database
from probes.errors import SchemaMismatch, StoreError


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "agent.store:migrations")
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The version this program works with."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def current(engine: Engine) -> str | None:
    """The version the database has, or None where it is empty."""
    with engine.connect() as conn:
        return MigrationContext.configure(conn).get_current_revision()


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Migrates the database. Raises SchemaMismatch where it is newer than this program."""
    found = current(engine)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaMismatch(f"it has {found}, which this version does not know; use a newer mailcanary")
    with engine.connect() as conn:
        command.upgrade(_config(conn), revision)
        conn.commit()


def make(url: str, *, password: Reveal | None = None) -> None:
    """Makes the schema in an empty database, or brings it up to date."""
    database = Database(url, password=password)
    try:
        upgrade(database.engine)
    finally:
        database.close()


def downgrade(engine: Engine, revision: str) -> None:
    """Takes migrations back."""
    with engine.connect() as conn:
        command.downgrade(_config(conn), revision)
        conn.commit()


def open_store(url: str, *, password: Reveal | None = None, migrate: bool = True) -> Database:
    """Opens the store; an empty or older SQLite file is brought up to date.

    password: of the PostgreSQL user, asked for at each connection; without it libpq's own means count
    (PGPASSFILE, PGSERVICE). Raises SchemaMismatch where that is not possible, StoreError where it cannot
    be opened.
    """
    try:
        database = Database(url, password=password)
        if migrate and database.url.get_backend_name() == "sqlite":
            if current(database.engine) != head():
                upgrade(database.engine)
        elif current(database.engine) != head():
            raise SchemaMismatch(
                f"it has {current(database.engine) or 'no schema'}, this program needs {head()}: "
                "run `mailcanary db upgrade`"
            )
    except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise StoreError(str(getattr(error, "orig", None) or error)) from error
    return database


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
