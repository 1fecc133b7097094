"""Every set against its bar; skipped where the public data is not there."""

from __future__ import annotations

import pytest

from tests.conformance.__main__ import CORPUS, rows, sets


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sets())
def test_set(name: str) -> None:
    if not CORPUS.is_dir():
        pytest.skip(f"no public conformance data at {CORPUS}")
    for row in rows(name, CORPUS):
        assert row.met, (row.name, row.passed, row.total, row.notes)
