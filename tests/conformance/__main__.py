"""`python -m tests.conformance [--corpus DIR] [--notes] [SET...]`: one line a set: name, passed, total."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.row import Row

CORPUS = Path(__file__).parents[2].parent / "shared" / "conformance"
HELPERS = frozenset(("__init__", "__main__", "row", "tally", "zones"))


def sets() -> list[str]:
    """Every module of this folder that has a `run(corpus)`."""
    names = [path.stem for path in Path(__file__).parent.glob("*.py")]
    return sorted(name for name in names if name not in HELPERS and not name.startswith("test_"))


def rows(name: str, corpus: Path) -> Iterator[Row]:
    """Runs one set; nothing where its data is not there."""
    module = importlib.import_module(f"tests.conformance.{name}")
    if (corpus / name).is_dir():
        yield from module.run(corpus)


def main() -> int:
    """Prints the report; 1 where a set is below its bar."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where the public data lies")
    parser.add_argument("--notes", action="store_true", help="every difference, with its reason")
    parser.add_argument("sets", nargs="*", metavar="SET", help="all, when none is named")
    args = parser.parse_args()
    if not args.corpus.is_dir():
        print(f"no corpus at {args.corpus}: skipped", file=sys.stderr)
        return 0
    short = False
    for name in args.sets or sets():
        for row in rows(name, args.corpus):
            print(f"{row.name} {row.passed} {row.total}", flush=True)
            short = short or not row.met
            for note in row.notes if args.notes else ():
                print(f"    {note}")
    return int(short)


if __name__ == "__main__":
    sys.exit(main())
