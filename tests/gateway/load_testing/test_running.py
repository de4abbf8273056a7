"""The process that makes the load, where it comes to nothing."""

import pytest

from gateway.load_testing.plan import Plan
from gateway.load_testing.running import CannotRun, run


def test_what_keeps_the_load_from_beginning_is_told(tmp_path, monkeypatch):
    (tmp_path / "locust.py").write_text("raise ImportError('gevent is of another Python')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # More than a pipe holds, of which nothing is read.
    plan = Plan(url="http://127.0.0.1:9", endpoint="iris", version=1, users=1, for_s=1, bodies=["x" * 1_000_000])
    with pytest.raises(CannotRun, match="gevent is of another Python"):
        list(run(plan))
