"""Turns what workers have kept of predictions into Parquet, for the supervisor: one run for a few files, then it ends.

Here and not in a worker or the supervisor, because pyarrow takes 100 MiB and a third of a second, which none of these
has to spare for what is written every few minutes.
"""

import os
import sys
from pathlib import Path

import pyarrow.parquet as pq

from gateway.api.scoring.json_answers import plain
from gateway.feedback.times import day_of
from gateway.kept_predictions.files import path_of
from gateway.kept_predictions.records import KeptPrediction, read_records
from gateway.kept_predictions.tables import table_of

Place = tuple[str, str]
"""An endpoint's id, and a day."""


def write_files(spool: Path, folder: Path) -> None:
    """Write what *spool* holds into files below *folder*, each where it is to be in the artifact store.

    Done again, the same files come of it: whoever can't tell whether they were uploaded may upload them again.
    """
    by_place: dict[Place, list[KeptPrediction]] = {}
    for kept in read_records(spool.read_bytes()):
        by_place.setdefault((kept.endpoint_id, day_of(kept.at_ms)), []).append(kept)
    for (endpoint_id, day), some in by_place.items():
        path = folder.joinpath(*path_of(endpoint_id, day, spool.stem).segments)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        pq.write_table(table_of(some, plain), unfinished, compression="zstd")
        unfinished.rename(path)


def main() -> None:
    """Serve ``python -m gateway.prediction_writer SPOOL FOLDER``."""
    spool, folder = map(Path, sys.argv[1:])
    try:
        write_files(spool, folder)
    except OSError as error:
        # The disk is full, say, which isn't the spool's fault: it is to be tried again.
        print(error, file=sys.stderr)  # noqa: T201  (to the supervisor)
        sys.exit(os.EX_TEMPFAIL)


if __name__ == "__main__":
    main()
