"""`python -m tests.guarantees [G1 ...] [N=...]`: the full forms, in pieces that are remembered.

Progress is kept in .cache/soak, so that a run that was ended, or that ended by itself before the hour was
over, goes on where it was. Prints 3/n, the bound on the failure rate, beside each claim.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.guarantees.claim import Guarantee, Tally

STATE = Path(__file__).parents[2] / ".cache" / "soak"
LONGEST = 55 * 60.0
"""Seconds after which no further piece is begun."""


def guarantees() -> Iterator[Guarantee]:
    """Every guarantee that has a full form here."""
    for path in sorted(Path(__file__).parent.glob("test_g*.py")):
        module = importlib.import_module(f"tests.guarantees.{path.stem}")
        found = getattr(module, "GUARANTEE", None)
        if isinstance(found, Guarantee):
            yield found


def _kept(one: Guarantee) -> tuple[int, Tally]:
    path = STATE / f"{one.name}.json"
    if not path.exists():
        return 0, Tally()
    state = json.loads(path.read_text())
    return state["done"], Tally(**state["tally"])


def _keep(one: Guarantee, done: int, tally: Tally) -> None:
    STATE.mkdir(parents=True, exist_ok=True)
    path = STATE / f"{one.name}.json"
    path.with_suffix(".new").write_text(json.dumps({"done": done, "tally": asdict(tally)}))
    path.with_suffix(".new").replace(path)


async def prove(one: Guarantee, wanted: int, end: float) -> bool:
    """Does pieces until there are as many as wanted. True where nothing failed."""
    done, tally = _kept(one)
    while done < wanted and time.monotonic() < end:
        with tempfile.TemporaryDirectory(prefix="mailcanary-soak-") as folder:
            tally.add(await one.part(Path(folder), done // one.per_part + 1))
        done += one.per_part
        _keep(one, done, tally)
        print(f"{one.name} {done}/{wanted} {tally.line(one.promise, one.unit)}", flush=True)
    print(f"{one.name} {'done' if done >= wanted else 'goes on when called again'}: ", end="")
    print(tally.line(one.promise, one.unit))
    for failure in tally.failures[:20]:
        print(f"  {failure}")
    return not tally.failures


def _meant(word: str, known: Iterable[str]) -> list[str]:
    """A promise that is proved in several ways has a name for each: G15 is G15 and G15-mail."""
    return [name for name in known if name == word or name.startswith(f"{word}-")]


def main(argv: Sequence[str]) -> int:
    """Exit code 0 where every promise held, 1 where one did not, 2 where a name is not known."""
    known = {one.name: one for one in guarantees()}
    asked = [word for word in argv if "=" not in word]
    names = [name for word in asked for name in _meant(word, known)] or list(known)
    settings = dict(word.split("=", 1) for word in argv if "=" in word)
    unknown = [word for word in asked if not _meant(word, known)] + [key for key in settings if key != "N"]
    if unknown:
        print(f"not known: {' '.join(unknown)}; there are {' '.join(known)} and N=...", file=sys.stderr)
        return 2
    end = time.monotonic() + LONGEST
    chosen = [known[name] for name in names]
    good = [asyncio.run(prove(one, int(settings.get("N", one.full)), end)) for one in chosen]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
