"""The lab as a fixture: one for the whole session, its rules taken back after every test."""

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# Tests are imported by path; the lab is a package of the checkout.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.lab.world.lab import Lab
from tests.lab.world.packages import why_not


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A running mail world. Tests take `lab.fresh_user(...)` and leave no rule behind (see `_clean_lab`)."""
    if reason := why_not():
        if os.environ.get("MAILCANARY_LAB") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    with Lab.start() as started:
        yield started


@pytest.fixture(autouse=True)
def _clean_lab(request: pytest.FixtureRequest) -> Iterator[None]:
    """Takes back what a test did to the lab."""
    yield
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").reset()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the lab's servers logged during a test that failed."""
    report = yield
    lab_of_test = getattr(item, "funcargs", {}).get("lab")
    if report.when == "call" and report.failed and isinstance(lab_of_test, Lab):
        lines = lab_of_test.log.lines_since(call.start)
        report.sections.append(("what the lab's servers logged", "\n".join(lines[-200:])))
    return report
