"""A store of each kind, as fixtures: tests/conftest.py gives them to every test.

Tests whose agents have a store of their own ask `store_in` for it: SQLite in the test's folder, or with
MAILCANARY_TEST_STORE=postgresql a database of one server for the whole session.
"""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

from tests.fakes.postgres import Postgres, postgres, running

__all__ = ["postgres", "postgres_url", "store_in", "store_url"]
FILE = "mailcanary.db"
ON_POSTGRESQL = os.environ.get("MAILCANARY_TEST_STORE") == "postgresql"


def _fill(url: str) -> None:
    from agent.store import schema

    schema.make(url)


@cache
def _server() -> Postgres:
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running())


def store_in(folder: Path) -> str:
    """The URL of the store that belongs to a folder: the same one whenever it is asked for."""
    if not ON_POSTGRESQL:
        return f"sqlite:///{folder}/{FILE}"
    server, name = _server(), "of_" + hashlib.sha256(str(folder).encode()).hexdigest()[:20]
    if not server.sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):
        server.create(name, _fill)
    return server.url(name)


def store_is_there(folder: Path) -> bool:
    """Whether there is a store in the folder yet."""
    return ON_POSTGRESQL or (folder / FILE).exists()


@contextmanager
def _fresh(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folder}/folder/mailcanary.db"
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database(_fill) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store: the test runs once for each kind of database."""
    with _fresh(request.param, request, tmp_path) as url:
        yield url


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store on PostgreSQL."""
    with _fresh("postgresql", request, tmp_path) as url:
        yield url
