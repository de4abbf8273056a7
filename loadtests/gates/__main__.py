"""`python -m loadtests.gates`: how many calls were made and refused, and status 1 with a way round if there is one.

With `--without CHECK`, or `--without each`, how many sequences it takes to find the way that this check closes, and
status 1 if they don't.
"""

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from sqlalchemy.orm import Session

from loadtests.gates.checks import CHECKS, without
from loadtests.gates.sequences import Counts, search
from tracking.database import Database

_EACH = "each"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--seed", default="20261123")
    parser.add_argument("--without", choices=(*CHECKS, _EACH), metavar="CHECK")
    asked = parser.parse_args()
    with _database() as session:
        if asked.without is None:
            return _look_for_a_way_round(session, asked.sequences, asked.seed)
        checks = CHECKS if asked.without == _EACH else [asked.without]
        missed = [each for each in checks if not _is_found(session, each, asked.sequences, asked.seed)]
    return 1 if missed else 0


@contextmanager
def _database() -> Iterator[Session]:
    # In memory where that is a folder, as nothing is ever committed.
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/gates.db")
        database.upgrade()
        with database.writing() as session:
            gc.freeze()  # Walking through what was imported takes longer than many a call.
            yield session
            session.rollback()
        database.dispose()


def _look_for_a_way_round(session: Session, sequences: int, seed: str) -> int:
    counts, began_s = Counts(), time.process_time()
    found = search(session, sequences, seed=seed, counts=counts)
    for name, count in msgspec.structs.asdict(counts).items():
        print(f"{name.replace('_', ' ')}: {count:,}")
    print(f"processor time: {time.process_time() - began_s:.0f} s")
    print(f"ways round: {0 if found is None else 1}")
    if found is not None:
        print(*found.calls, "", *found.what, sep="\n")
    return 0 if found is None else 1


def _is_found(session: Session, check: str, sequences: int, seed: str) -> bool:
    counts = Counts()
    with session.begin_nested() as undone, without(check):
        found = search(session, sequences, seed=seed, counts=counts)
        undone.rollback()
    said = "not found" if found is None else f"a way round of {len(found.calls)} calls"
    print(f"without {check!r}: {said}, after {counts.sequences:,} sequences", flush=True)
    return found is not None


if __name__ == "__main__":
    sys.exit(main())
