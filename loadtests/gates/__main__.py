"""`python -m loadtests.gates`: how many calls were made and refused, and status 1 with a way round if there is one."""

import argparse
import gc
import sys
import tempfile
import time

import msgspec

from loadtests.gates.sequences import Counts, search
from tracking.database import Database


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--seed", default="20261123")
    asked = parser.parse_args()
    counts, began_s = Counts(), time.process_time()
    # In memory where that is a folder, as nothing is ever committed.
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/gates.db")
        database.upgrade()
        with database.writing() as session:
            gc.freeze()  # Walking through what was imported takes longer than many a call.
            found = search(session, asked.sequences, seed=asked.seed, counts=counts)
            session.rollback()
        database.dispose()
    for name, count in msgspec.structs.asdict(counts).items():
        print(f"{name.replace('_', ' ')}: {count:,}")
    print(f"processor time: {time.process_time() - began_s:.0f} s")
    print(f"ways round: {0 if found is None else 1}")
    if found is not None:
        print(*found.calls, "", *found.what, sep="\n")
    return 0 if found is None else 1


if __name__ == "__main__":
    sys.exit(main())
