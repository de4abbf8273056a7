"""From a spool to Parquet in an artifact store, over failures and kills. e2e: a process writes each file."""

import asyncio
import subprocess
import sys
import uuid
from datetime import date

import numpy as np
import pytest

from gateway.kept_predictions.files import list_files, path_of, remove_old
from gateway.kept_predictions.records import KeptPrediction, pack, to_record
from gateway.kept_predictions.shipping import ArrowNotInstalled, PredictionShipper, ensure_can_write, shipping
from gateway.kept_predictions.spool import SpoolWriter, spools_in
from loaders.base import Batch, Form
from tracking.artifact_paths import PREDICTIONS, ArtifactPath
from tracking.artifact_stores import open_store
from tracking.artifacts import StoreUnavailable

ENDPOINTS = ("ab" * 16, "cd" * 16)
DAY_MS = 86_400_000
NOON_MS = 20_000 * DAY_MS + DAY_MS // 2
"""Of the fourth of October 2024."""
FIRST, SECOND = date(2024, 10, 4), date(2024, 10, 5)


def kept(number, endpoint_id=ENDPOINTS[0], at_ms=NOON_MS):
    answer = pack(Batch(Form.TENSOR, {"": np.array([number, number])}))
    return KeptPrediction(f"id-{number}", at_ms, endpoint_id, "iris", "iris", 1, "champion", 1, 5, 2, answer)


def spool(folder, *predictions):
    writer = SpoolWriter(folder, file_bytes_max=10**6, file_s=60, folder_bytes_max=10**7, clock=lambda: 0.0)
    assert writer.write([to_record(one) for one in predictions]) == 0
    writer.close()


@pytest.fixture
def spools(tmp_path):
    return tmp_path / "spools"


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "artifacts"))


def read_back(store, endpoint_id, **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for file in list_files(store, endpoint_id, **options):
        with store.open(ArtifactPath.parse(file.path)) as reader:
            content = b"".join(reader.chunks())
        assert len(content) == file.bytes
        rows += pq.read_table(pa.BufferReader(content)).to_pylist()
    return [(row["prediction_id"], row["row"], row["label"]) for row in rows]


def both_rows(*numbers):
    return [(f"id-{number}", row, str(number)) for number in numbers for row in (0, 1)]


def ship(folder, store, **options):
    return asyncio.run(PredictionShipper(folder, store, kept_days=30, **options).ship())


def write_some(store, path):
    with store.upload(path) as upload:
        upload.write(b"something")
        upload.finish()
        upload.publish()


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_what_is_spooled_is_in_the_store_by_endpoint_and_day_and_no_longer_in_the_spool(
    kind, request, spools, store, monkeypatch
):
    if kind == "s3":
        for name, value in request.getfixturevalue("s3_environment").items():
            monkeypatch.setenv(name, value)
        store = open_store(f"s3://titlebout-test/{uuid.uuid4().hex}")
    spool(spools, kept(0), kept(1, ENDPOINTS[1]), kept(2), kept(3, at_ms=NOON_MS + DAY_MS))
    assert ship(spools, store)
    assert read_back(store, ENDPOINTS[0]) == both_rows(0, 2, 3)
    assert read_back(store, ENDPOINTS[0], since=SECOND) == both_rows(3)
    assert read_back(store, ENDPOINTS[1]) == both_rows(1)
    assert list(spools.iterdir()) == []
    assert [file.date for file in list_files(store, ENDPOINTS[0])] == [FIRST, SECOND]
    assert remove_old(store, now_ms=NOON_MS + 31 * DAY_MS, kept_days=30) == 2
    assert read_back(store, ENDPOINTS[0]) == both_rows(3)


@pytest.mark.e2e
def test_a_kill_between_spool_and_store_loses_nothing_and_repeats_nothing(spools, store):
    spool(spools, kept(0))
    [path] = spools_in(spools)
    # Whoever was killed had written it as Parquet and had uploaded that, and had not come to removing the spool.
    written = path.with_suffix(".written")
    subprocess.run([sys.executable, "-m", "gateway.prediction_writer", path, written], check=True, timeout=60)
    [parquet] = written.rglob("*.parquet")
    write_some(store, ArtifactPath(parquet.relative_to(written).parts))
    (written / "unfinished.parquet.1").write_bytes(b"PAR1")
    assert ship(spools, store)
    assert read_back(store, ENDPOINTS[0]) == both_rows(0)
    assert list(spools.iterdir()) == []


@pytest.mark.e2e
def test_what_the_store_does_not_take_waits_and_what_cannot_be_read_is_set_aside(spools, store, monkeypatch, caplog):
    spool(spools, kept(0))
    with monkeypatch.context() as away:
        away.setattr(type(store), "upload", lambda *_: _raise(StoreUnavailable()))
        assert not ship(spools, store)
        assert "predictions_not_uploaded" in caplog.text
    assert len(spools_in(spools)) == 1
    spools_in(spools)[0].write_bytes(b"\x03\x00\x00\x00bad")
    shipper = PredictionShipper(spools, store, kept_days=30)
    assert [asyncio.run(shipper.ship()) for _ in range(4)] == [False, False, False, True]
    assert [path.suffix for path in spools.iterdir()] == [".unreadable"]


@pytest.mark.e2e
def test_what_cannot_be_written_for_want_of_room_is_tried_until_it_can(spools, store, caplog):
    spool(spools, kept(0))
    [path] = spools_in(spools)
    in_the_way = path.with_suffix(".written")
    in_the_way.touch()
    shipper = PredictionShipper(spools, store, kept_days=30)
    assert [asyncio.run(shipper.ship()) for _ in range(3)] == [False] * 3
    assert "predictions_not_uploaded" in caplog.text
    in_the_way.unlink()
    assert asyncio.run(shipper.ship())
    assert read_back(store, ENDPOINTS[0]) == both_rows(0)


def test_no_process_for_it_is_no_end_of_shipping(spools, store, monkeypatch, caplog):
    spool(spools, kept(0))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert not ship(spools, store)
    assert "predictions_not_uploaded" in caplog.text
    assert len(spools_in(spools)) == 1


def test_what_whoever_was_killed_had_written_beside_a_spool_goes_with_it(spools, store):
    left = spools / "gone.written" / PREDICTIONS
    left.mkdir(parents=True)
    (left / "some.parquet").write_bytes(b"personal")

    async def serve():
        async with shipping(spools, store, kept_days=30):
            await asyncio.sleep(0)  # It begins by a sweep, for whose end the loop's own end waits.

    asyncio.run(serve())
    assert list(spools.iterdir()) == []


@pytest.mark.e2e
def test_what_workers_write_at_their_end_is_shipped_before_the_end_of_all(spools, store):
    async def serve():
        async with shipping(spools, store, kept_days=100_000):
            spool(spools, kept(0))

    asyncio.run(serve())
    assert read_back(store, ENDPOINTS[0]) == both_rows(0)


def test_a_start_that_could_not_write_what_it_keeps_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    ensure_can_write(0.0)
    with pytest.raises(ArrowNotInstalled, match=r"titlebout\[arrow\]"):
        ensure_can_write(0.1)


def test_only_days_that_are_older_than_is_kept_are_removed(store):
    for day in ("2024-10-03", "2024-10-04", "2024-10-05"):
        write_some(store, path_of(ENDPOINTS[0], day, "some"))
    write_some(store, ArtifactPath((PREDICTIONS, ENDPOINTS[1], "notes", "mine.txt")))
    assert remove_old(store, now_ms=NOON_MS + DAY_MS, kept_days=1) == 1
    assert [file.date for file in list_files(store, ENDPOINTS[0])] == [FIRST, SECOND]
    assert [file.bytes for file in list_files(store, ENDPOINTS[0], since=SECOND)] == [9]
    assert store.stat(ArtifactPath((PREDICTIONS, ENDPOINTS[1], "notes", "mine.txt"))).size == 9


def _raise(error):
    raise error
