"""What a host may not read is told by the settings, by the environment, and by where programs keep credentials."""

from pathlib import Path

import pytest

from gateway.pool.confinement.restraints import restraints_of
from gateway.pool.machine import usable_memory_bytes
from gateway.settings import Confinement, Settings


@pytest.mark.parametrize(
    ("settings", "environment", "hidden"),
    [
        pytest.param({}, {}, ["{tmp}/data", "{tmp}/run", "/dev", "/etc/shadow"], id="data, sockets and devices"),
        pytest.param({"artifact_root": "{tmp}/files"}, {}, ["{tmp}/files"], id="artifacts in a folder"),
        pytest.param(
            {"database_url": "sqlite:///{tmp}/elsewhere.db"},
            {},
            ["{tmp}/elsewhere.db", "{tmp}/elsewhere.db-wal"],
            id="a database elsewhere",
        ),
        pytest.param({}, {"HOME": "{tmp}/home"}, ["{tmp}/home/.aws", "{tmp}/home/.ssh"], id="credentials at home"),
        pytest.param(
            {}, {"PGPASSFILE": "{tmp}/passwords"}, ["{tmp}/passwords"], id="credentials that a variable names"
        ),
    ],
)
def test_secrets_are_hidden(tmp_path, settings, environment, hidden):
    def filled(text):
        return text.replace("{tmp}", str(tmp_path))

    given = Settings(data=str(tmp_path / "data"), **{name: filled(value) for name, value in settings.items()})
    held = restraints_of(given, tmp_path / "run", {name: filled(value) for name, value in environment.items()})
    assert {filled(path) for path in hidden} <= set(held.hidden)


def test_what_is_elsewhere_altogether_is_no_path(tmp_path):
    settings = Settings(
        data=str(tmp_path / "data"), database_url="postgresql://user:password@host/name", artifact_root="s3://bucket"
    )
    held = restraints_of(settings, tmp_path / "run", {})
    assert not [path for path in held.hidden if "host" in path or "bucket" in path]


def test_a_link_to_the_data_is_followed_to_where_the_data_are(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    held = restraints_of(Settings(data=str(tmp_path / "link")), tmp_path / "run", {})
    assert str(tmp_path.resolve() / "real") in held.hidden


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"host_memory_bytes_max": 1_000}, 1_000, id="its own bound"),
        pytest.param({"memory_bytes_max": 2_000}, 2_000, id="else that of all hosts"),
        pytest.param({}, int(usable_memory_bytes() * 0.75), id="else three quarters of what there is"),
    ],
)
def test_a_host_may_hold_as_much_as_was_said(settings, expected):
    assert restraints_of(Settings(**settings), Path("/run"), {}).memory_bytes_max == expected


def test_confinement_and_threads_are_those_of_the_settings():
    held = restraints_of(Settings(host_confinement=Confinement.REQUIRED, host_threads=3), Path("/run"), {})
    assert (held.confinement, held.threads) == (Confinement.REQUIRED, 3)
