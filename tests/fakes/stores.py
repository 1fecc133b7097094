"""A store of each kind, as fixtures: tests/conftest.py gives them to every test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.postgres import Postgres, postgres

__all__ = ["postgres", "postgres_url", "store_url"]


def _fill(url: str) -> None:
    from agent.store import schema

    schema.make(url)


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
