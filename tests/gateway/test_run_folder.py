import tempfile
from pathlib import Path

import pytest

from gateway.run_folder import run_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_nothing_of_a_run_is_left(temporary):
    with run_folder() as folder:
        (folder / "scratch/file").write_text("x")
    assert list(temporary.iterdir()) == []


def test_a_killed_run_s_folder_is_swept_by_the_next_and_a_living_one_s_is_not(temporary):
    killed = temporary / "titlebout-run-killed"
    killed.mkdir()
    (killed / "lock").touch()
    (temporary / "titlebout-run-somebody-else-s").mkdir()
    with run_folder() as living, run_folder() as second:
        assert not killed.exists()
        assert living.is_dir()
        assert living != second
    assert [path.name for path in temporary.iterdir()] == ["titlebout-run-somebody-else-s"]
