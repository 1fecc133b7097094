"""With several workers: slow files are dealt out by their weight, so that every worker begins with its share.

A worker first gets a run of neighbours and later takes over what others have not begun. Undealt, the lab's
files would all be one worker's, and what they share between their tests would be made again and again.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from tests.examples import examples
from tests.fakes.stores import postgres, postgres_url, store_url

__all__ = ["postgres", "postgres_url", "store_url"]

COMPILED = Path(__file__).parents[1] / ".cache" / "pycache"
"""Kept in a folder of its own, also where the environment wants no bytecode beside the sources: to compile
the tests, and all that each agent in a test imports, takes longer than most tests."""
sys.pycache_prefix, sys.dont_write_bytecode = str(COMPILED), False
os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("mailcanary", max_examples=examples(100))
settings.load_profile("mailcanary")

SECONDS = {
    "test_change_command.py": 160,
    "test_change_verdicts.py": 80,
    "test_prometheus.py": 75,
    "test_commands.py": 55,
    "test_g12_fleet.py": 55,
    "test_rolling_agents.py": 45,
    "test_two_agents.py": 40,
    "test_demo.py": 40,
    "test_outage.py": 30,
    "test_blocklist_parts.py": 30,
    "test_lost_commits.py": 45,
    "test_rounds_taken_over.py": 40,
    "test_records.py": 35,
    "test_g01_crash.py": 30,
    "test_g08_alerts.py": 30,
    "test_guarantees.py": 30,
    "test_g16_secrets.py": 25,
    "test_mailbox_dovecot.py": 20,
    "test_blocklists.py": 20,
    "test_g14_watched.py": 18,
    "test_sweeping.py": 12,
    "test_blocklists_sweep.py": 7,
    "test_alertmanager.py": 18,
    "test_g07_blocklists.py": 16,
    "test_own_faults.py": 16,
}
"""What the slowest files took on two cores; need not be right, only in proportion."""
OTHERS = 5
QUICK = "unit"


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """A command that a test runs sends the logs to that test's standard error, which is closed afterwards."""
    yield
    structlog.reset_defaults()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        items[:] = _dealt(items, workers)


def _dealt(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Slow files go to the hand that is lightest; quick ones fill the hands up to equal numbers of tests."""
    files: dict[str, list[pytest.Item]] = defaultdict(list)
    quick: list[pytest.Item] = []
    for item in items:
        if item.path.parent.name == QUICK:
            quick.append(item)
        else:
            files[str(item.path)].append(item)
    hands: list[list[pytest.Item]] = [[] for _ in range(workers)]
    weights = [0.0] * workers
    for path, mine in sorted(files.items(), key=lambda one: (-_weight(one[0]), one[0])):
        lightest = weights.index(min(weights))
        hands[lightest] += mine
        weights[lightest] += _weight(path)
    share = -(-len(items) // workers)
    for hand in hands:
        fill = max(0, share - len(hand))
        hand += quick[:fill]
        del quick[:fill]
    return [item for hand in hands for item in hand] + quick


def _weight(path: str) -> float:
    return SECONDS.get(path.rpartition("/")[2], OTHERS)
