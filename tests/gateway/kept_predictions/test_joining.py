"""Labels that wait, joined to real files of kept predictions. e2e where a process reads them."""

import asyncio
from itertools import count

import numpy as np
import pytest

from gateway.comparison import kept_sums
from gateway.comparison.sums import CLASSES, NUMBERS, Column
from gateway.feedback.judging import Item, Outcome, judge
from gateway.feedback.keeping import keep
from gateway.feedback.prediction_ids import Answered
from gateway.feedback.times import DAY_MS
from gateway.kept_predictions import joining
from gateway.kept_predictions.joining import LabelJoiner
from gateway.kept_predictions.looking_up import Asked, Predicted, Question
from gateway.kept_predictions.records import KeptPrediction, pack, to_record
from loaders.base import Batch, Form, JsonAnswer
from registry import labels, prediction_keys, waiting_labels
from registry.entities import CHALLENGER, CHAMPION, Cell
from tests.gateway.feedback.test_judging import KEPT_MS, NOW_MS
from tests.gateway.made_ids import made_id
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_stores import open_store
from tracking.artifacts import StoreUnavailable

FILE_S = 300
MIDNIGHT_MS = NOW_MS // DAY_MS * DAY_MS
LATER_MS = NOW_MS + 2_000 * FILE_S + 600_000
numbers = count(1)
names = count(1)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "artifacts"))


@pytest.fixture
def answered(database, endpoint_id, two_arms):
    """What one request was answered by an arm, and kept, under an id that says nothing of that."""
    with database.writing() as session:
        key = prediction_keys.ensure_key(session, now_ms=NOW_MS)

    def make(answer, rows, arm=CHAMPION, version=1, bucket=1_234, at_ms=NOW_MS, kept_ms=NOW_MS):
        whose = Answered(endpoint_id, two_arms, arm, version)
        made = made_id(key, whose, count=next(numbers), at_ms=at_ms, bucket=bucket, prediction=None)
        return KeptPrediction(
            made, kept_ms, endpoint_id, "iris", "iris", version, arm, two_arms, bucket, rows, pack(answer)
        )

    return make


def tensor(*values):
    return Batch(Form.TENSOR, {"": np.array(values)})


def write(folder, *kept):
    """A file in *folder*, where it is to be in the store, of what was kept."""
    from gateway.prediction_writer import write_files

    spool = folder / f"{next(names)}.spool"
    spool.write_bytes(b"".join(map(to_record, kept)))
    write_files(spool, folder / spool.stem)
    return folder / spool.stem


def ship(store, folder, *kept):
    written = write(folder, *kept)
    for file in written.rglob("*.parquet"):
        with store.upload(ArtifactPath(file.relative_to(written).parts)) as upload:
            upload.write(file.read_bytes())
            upload.finish()
            upload.publish()


def give(database, *items, why_not_kept=lambda _: None):
    with database.reading() as session:
        judged, _ = judge(
            session,
            [Item(kept.prediction_id, label, row=row) for kept, label, row in items],
            may_ask=lambda *_: True,
            now_ms=NOW_MS,
            kept_ms=KEPT_MS,
            why_not_kept=why_not_kept,
        )
    with database.writing() as session:
        return [one.outcome for one in keep(session, judged)]


def join(database, store, folder, *, now_ms=NOW_MS, replicas=1):
    """Have some look once, all of them at once."""

    async def look():
        joiners = [
            LabelJoiner(database, store, folder, file_s=FILE_S, clock=lambda: now_ms / 1000) for _ in range(replicas)
        ]
        await asyncio.gather(*(joiner.join() for joiner in joiners))

    asyncio.run(look())


def sums(database, endpoint_id, layout, *columns):
    with database.reading() as session:
        cells = kept_sums.read(session, endpoint_id).tally(layout).cells
    return {cell: [found.row(column).sum() for column in columns] for cell, found in cells.items()}


def counts(database, endpoint_id):
    with database.reading() as session:
        return labels.counts_of(session, endpoint_id)


@pytest.mark.e2e
def test_labels_of_rows_and_of_probabilities_count_once_for_who_answered(
    database, endpoint_id, two_arms, answered, store, tmp_path, monkeypatch
):
    three = answered(tensor(0, 1, 2), 3)
    wide = answered(tensor([0.2, 0.7, 0.1]), 1, CHALLENGER, 2)
    amount = answered(tensor(1.0, 4.0), 2, at_ms=MIDNIGHT_MS - 1, kept_ms=MIDNIGHT_MS + 1)
    forced = answered(tensor(0, 0), 2, bucket=None)
    given = [(three, 0, 0), (three, 0, 1), (three, 2, 2), (wide, 1, None), (amount, 3.0, 1), (forced, 0, 0)]
    assert give(database, *given, given[0]) == [Outcome.WAITING] * 6 + [Outcome.REPEATED]
    monkeypatch.setattr(joining, "_ASKED_AT_ONCE", 4)
    # Nothing is in the store yet, and it needn't be.
    join(database, store, tmp_path, now_ms=MIDNIGHT_MS)
    ship(store, tmp_path, three, wide, amount, forced)
    join(database, store, tmp_path, replicas=2)
    champion, challenger = Cell(two_arms, CHAMPION, 1), Cell(two_arms, CHALLENGER, 2)
    found = sums(database, endpoint_id, CLASSES, Column.LABELS, Column.CORRECT, Column.LOG_LOSS, Column.BRIER)
    assert found == {
        champion: [3, 2, 0, 0],
        challenger: [1, 1, pytest.approx(-np.log(0.7)), pytest.approx(0.2**2 + 0.3**2 + 0.1**2)],
    }
    assert sums(database, endpoint_id, NUMBERS, Column.LABELS) == {champion: [1]}
    assert give(database, *given) == [Outcome.REPEATED] * 6
    assert counts(database, endpoint_id) == {"waiting": 6, "repeated": 7, "accepted": 6}


@pytest.mark.e2e
def test_what_is_found_and_says_nothing_is_let_go_and_may_be_given_again(
    database, endpoint_id, answered, store, tmp_path
):
    three, logits, unkept = answered(tensor(0, 1, 2), 3), answered(tensor([3.0, -1.0]), 1), answered(tensor(1, 1), 2)
    ship(store, tmp_path, three, logits)
    given = [(three, 0, 3), (three, 0, None), (three, "setosa", 1), (logits, 1, None), (unkept, 1, 1)]
    assert give(database, *given) == [Outcome.WAITING] * 5
    join(database, store, tmp_path)
    with database.reading() as session:
        [place] = waiting_labels.places(session)
        assert [one.prediction_id for one in waiting_labels.list_of(session, place)] == [unkept.prediction_id]
    assert counts(database, endpoint_id) == {"waiting": 5, "unmatched": 3, "wrong": 1}
    # Its file must be there by then.
    join(database, store, tmp_path, now_ms=LATER_MS + 1)
    assert counts(database, endpoint_id)["unmatched"] == 4
    assert give(database, (three, 1, 1)) == [Outcome.WAITING]
    join(database, store, tmp_path)
    assert counts(database, endpoint_id)["accepted"] == 1


def test_labels_wait_longer_where_the_store_was_away(database, endpoint_id, answered, store, tmp_path, monkeypatch):
    assert give(database, (answered(tensor(0, 1), 2), 0, 0)) == [Outcome.WAITING]
    now_ms = LATER_MS + 1
    joiner = LabelJoiner(database, store, tmp_path, file_s=FILE_S, clock=lambda: now_ms / 1000)
    with monkeypatch.context() as away:
        away.setattr(type(store), "list_folder", lambda *_, **__: _raise(StoreUnavailable()))
        asyncio.run(joiner.join())
    # What was kept of it waits to be uploaded, too.
    asyncio.run(joiner.join())
    assert counts(database, endpoint_id) == {"waiting": 1}
    now_ms += LATER_MS - NOW_MS
    asyncio.run(joiner.join())
    assert counts(database, endpoint_id) == {"waiting": 1, "unmatched": 1}


def test_what_the_log_does_not_keep_or_has_no_room_for_does_not_wait(database, answered, monkeypatch):
    three = answered(tensor(0, 1, 2), 3)
    assert give(database, (three, 0, 0), why_not_kept=lambda _: "it is off") == [Outcome.UNMATCHED]
    assert give(database, (three, "x" * 1_000, 0)) == [Outcome.UNMATCHED]
    monkeypatch.setattr(waiting_labels, "WAITING_MAX", 2)
    some = [(three, 0, row) for row in range(3)]
    assert give(database, *some) == [Outcome.WAITING, Outcome.WAITING, Outcome.UNMATCHED]


def test_rows_are_found_as_what_they_were(tmp_path, answered):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from gateway.prediction_reader import answer

    kept = [
        answered(tensor(True, False), 2),
        answered(tensor("a", "2"), 2),
        answered(Batch(Form.TABLE, {"class": np.array([3, 4])}), 2),
        answered(Batch(Form.TABLE, {"no": np.array([0.25, 0.5]), "yes": np.array([0.75, 0.5])}), 2),
        answered(tensor(1.0, np.nan), 2),
        answered(JsonAnswer(b'{"text": "hello", "tokens": 5}'), 2),
    ]
    [file] = write(tmp_path, *kept).rglob("*.parquet")
    (tmp_path / "bad").write_bytes(b"PAR1")
    # Somebody's own, beside ours.
    theirs = pq.read_table(file, partitioning=None).replace_schema_metadata(None)
    words = pa.array(["setosa"] * len(theirs))
    pq.write_table(theirs.drop_columns("prediction").append_column("prediction", words), tmp_path / "theirs")
    asked = [Asked(one.prediction_id, row) for one in kept for row in (0, 1)]
    others = [str(tmp_path / name) for name in ("bad", "theirs")]
    found = answer(Question([str(file), *others], NOW_MS, NOW_MS, asked))
    assert list(found.unreadable) == others
    by_row = {one.asked: one for one in found.predicted}
    said = [by_row[one].numbers or by_row[one].value for one in asked[:9]]
    assert said == [True, False, "a", "2", 3, 4, [0.25, 0.75], [0.5, 0.5], 1.0]
    assert [by_row[one].rows for one in asked[-2:]] == [1, 1]
    assert by_row[asked[-2]] == Predicted(asked[-2], 1)
    assert not by_row[asked[-1]].is_there


def _raise(error):
    raise error
