import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.kept_predictions.records import KeptPrediction, read_records, to_record
from gateway.kept_predictions.spool import SpoolWriter, spools_in, taken

KILLED = """
import os, signal, sys
from pathlib import Path
from gateway.kept_predictions.spool import SpoolWriter
writer = SpoolWriter(Path(sys.argv[1]), file_bytes_max=10**6, file_s=60, folder_bytes_max=10**6, clock=lambda: 0)
writer.write([bytes.fromhex(record) for record in sys.argv[2:]])
os.kill(os.getpid(), signal.SIGKILL)
"""


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def writer_of(folder, clock, **bounds):
    return SpoolWriter(
        folder, **{"file_bytes_max": 10**6, "file_s": 60, "folder_bytes_max": 10**6, **bounds}, clock=clock
    )


def kept(number, answer=b"answer"):
    return KeptPrediction(f"id-{number}", number, "ab" * 16, "iris", "iris", 1, "champion", 1, 5, 1, answer)


def records_in(folder):
    return [one for path in spools_in(folder) for one in read_records(path.read_bytes())]


def test_what_was_written_comes_back_in_order(tmp_path, clock):
    writer = writer_of(tmp_path, clock)
    assert writer.write([to_record(kept(number)) for number in range(3)]) == 0
    writer.close()
    assert records_in(tmp_path) == [kept(number) for number in range(3)]


def test_a_file_is_taken_once_it_is_old_or_large_and_by_one_alone(tmp_path, clock):
    writer = writer_of(tmp_path, clock, file_bytes_max=150)
    writer.write([to_record(kept(0))])
    [first] = spools_in(tmp_path)
    with taken(first) as is_ours:
        assert not is_ours
    clock.now_s = 60
    writer.write([])
    with taken(first) as is_ours, taken(first) as is_theirs:
        assert (is_ours, is_theirs) == (True, False)
        first.unlink()
    with taken(first) as is_ours:
        assert not is_ours
    writer.write([to_record(kept(number)) for number in range(6)])
    writer.close()
    assert len(spools_in(tmp_path)) > 1
    assert records_in(tmp_path) == [kept(number) for number in range(6)]


def test_nothing_more_is_written_once_the_folder_is_full_until_it_is_emptied(tmp_path, clock):
    writer = writer_of(tmp_path, clock, file_bytes_max=100, folder_bytes_max=300)
    assert writer.write([to_record(kept(number)) for number in range(100)]) > 90
    writer.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 500
    for path in spools_in(tmp_path):
        path.unlink()
    assert writer.write([to_record(kept(0))]) == 0
    writer.close()


def test_a_full_disk_is_said_once_and_leaves_no_empty_files(tmp_path, clock, caplog):
    writer = writer_of(tmp_path, clock)
    bounds = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, bounds[1]))
    try:
        assert [writer.write([to_record(kept(number)) for number in range(10)]) for _ in range(2)] == [10, 10]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bounds)
    assert list(tmp_path.iterdir()) == []
    assert [record.message for record in caplog.records] == ["predictions_not_kept"]
    assert writer.write([to_record(kept(0))]) == 0
    writer.close()
    assert records_in(tmp_path) == [kept(0)]


def test_a_file_that_cannot_be_closed_is_followed_by_another(tmp_path, clock):
    writer = writer_of(tmp_path, clock)
    writer.write([to_record(kept(0))])
    os.close(writer._file.fileno())
    clock.now_s = 60
    assert writer.write([]) == 0
    assert writer.write([to_record(kept(1))]) == 0
    writer.close()
    assert len(records_in(tmp_path)) == 2


def test_what_a_killed_worker_has_written_is_there_and_can_be_taken(tmp_path, clock):
    whole, torn = to_record(kept(0)), to_record(kept(1))[:-3]
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path, whole.hex(), torn.hex()], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    [left] = spools_in(tmp_path)
    with taken(left) as is_ours:
        assert is_ours
    assert records_in(tmp_path) == [kept(0)]


def test_a_record_that_fails_to_be_written_leaves_those_before_it_whole(tmp_path, clock, caplog):
    writer = writer_of(tmp_path, clock)
    writer.write([to_record(kept(0))])
    # The file is exchanged for one on which every write fails, as on a full disk.
    file = writer._file
    with Path("/dev/full").open("wb", buffering=0) as full:
        os.dup2(full.fileno(), file.fileno())
        assert writer.write([to_record(kept(1)), to_record(kept(2))]) == 1
    writer.close()
    assert [one.prediction_id for one in records_in(tmp_path)] == ["id-0", "id-2"]
    assert "predictions_not_kept" in caplog.text
