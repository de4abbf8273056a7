"""A collection removes what was deleted long ago and what belongs to nobody, and nothing that anybody needs."""

import time

import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.operations.folders import Folders
from gateway.operations.garbage import (
    Expired,
    TooYoung,
    choose_doomed,
    find_garbage,
    is_garbage,
    remove_garbage,
    size_of,
)
from gateway.operations.progress import Silent
from registry import models, versions
from registry.sources import Claim, SourcePolicy
from tests.gateway.operations.conftest import path_of, upload
from tracking import artifact_records, experiments, logged_models, runs
from tracking.artifact_paths import PREDICTIONS, ArtifactPath
from tracking.artifact_uris import ProxiedUri
from tracking.artifacts import StoredArtifact
from tracking.entities import ViewType
from tracking.expiry import ExpiredExperiment, Owner
from tracking.schema import LoggedModelRow, RunRow

# On each database and each store: slow, but part of `make check`.
pytestmark = pytest.mark.slow

DAY_MS = 24 * 3600 * 1000


def located(uri):
    return uri.path if isinstance(uri, ProxiedUri) else None


def folders(*paths):
    return Folders(ArtifactPath.parse(path) for path in paths)


def owner(id, experiment_id=1):
    return Owner(id, experiment_id, f"mlflow-artifacts:/{experiment_id}/{id}/artifacts")


@pytest.mark.parametrize(
    ("path", "covered", "touched"),
    [
        ("a/b", True, True),
        ("a/b/c/d", True, True),
        ("a", False, True),
        ("a/bb", False, False),
        ("b", False, False),
    ],
)
def test_folders_know_what_lies_in_them_and_what_they_lie_in(path, covered, touched):
    asked = folders("a/b", "x/y/z")
    assert asked.cover(ArtifactPath.parse(path)) is covered
    assert asked.touch(ArtifactPath.parse(path)) is touched


def test_a_run_that_a_version_was_made_from_stays_and_its_experiment_with_it():
    expired = Expired(
        runs=[owner("r1"), owner("r2"), owner("r3", 2)],
        logged_models=[owner("m1", 2)],
        experiments=[ExpiredExperiment(1, "one"), ExpiredExperiment(2, "two"), ExpiredExperiment(3, "three")],
    )
    owners = [*expired.runs, *expired.logged_models, owner("alive", 3)]
    doomed = choose_doomed(expired, owners, folders("1/r1/artifacts/model"), located)
    assert doomed.run_ids == ("r2", "r3")
    assert doomed.model_ids == ("m1",)
    assert [one.experiment_id for one in doomed.experiments] == [2]
    assert doomed.kept == ("r1",)


def test_a_file_is_garbage_if_it_is_old_and_nobodys():
    file = StoredArtifact(ArtifactPath.parse("1/r/artifacts/a"), 1, modified_ms=100)
    assert is_garbage(file, folders(), 100)
    assert not is_garbage(file, folders(), 99)
    assert not is_garbage(file, folders("1/r/artifacts"), 100)


@pytest.fixture
def old(filled, monkeypatch):
    """The same, forty days later by the database's clock."""
    monkeypatch.setattr(filled.database, "now_ms", lambda _session: int(time.time() * 1000) + 40 * DAY_MS)
    return filled


def collected(filled, age_ms=30 * DAY_MS):
    garbage = find_garbage(filled.database, filled.store, age_ms=age_ms, progress=Silent())
    return remove_garbage(filled.database, filled.store, garbage, age_ms=age_ms, progress=Silent())


def stored(filled):
    return {str(file.path) for file in filled.store.walk(None)}


def now_ms():
    return int(time.time() * 1000)


def delete_run(filled, run_id, at_ms=None):
    with filled.database.writing() as session:
        runs.delete_run(session, run_id, now_ms=at_ms or now_ms())


def test_a_deleted_run_goes_with_its_artifacts_and_nothing_else_does(old):
    with old.database.writing() as session:
        other = runs.create_run(session, old.experiment_id, start_time_ms=1).info
    upload(old.database, old.store, path_of(other.artifact_uri, "mine.txt"), b"keep")
    upload(old.database, old.store, "999/nobody/stray.txt", b"stray")
    delete_run(old, old.run_id)
    before = stored(old)
    gone = collected(old)
    assert gone.doomed.run_ids == (old.run_id,)
    notes, large = path_of(old.run_uri, "notes/a b.txt"), path_of(old.run_uri, "large.bin")
    assert before - stored(old) == {notes, large, "999/nobody/stray.txt"}
    assert size_of(gone.files) == 5 + 256 * 9_000 + 5
    with old.database.reading() as session:
        assert session.get(RunRow, old.run_id) is None
        assert session.get(RunRow, other.run_id) is not None
        assert session.get(LoggedModelRow, old.model_id) is not None
        assert artifact_records.find_digest(session, ArtifactPath.parse(large)) is None
        assert artifact_records.find_digest(session, ArtifactPath.parse(path_of(old.model_uri, "MLmodel"))) is not None
    again = collected(old)
    assert (again.doomed.run_ids, again.files) == ((), ())


def test_what_another_server_left_in_the_same_store_stays_unless_it_is_asked_for(old):
    theirs, of_ours = "7/their-run/artifacts/model.pkl", path_of(old.run_uri, "direct.bin")
    kept = f"{PREDICTIONS}/an-endpoint/date=2020-01-01/some.parquet"
    for path in (theirs, of_ours, kept):
        with old.store.upload(ArtifactPath.parse(path)) as past_us:
            past_us.write(b"seven")
            past_us.finish()
            past_us.publish()
    delete_run(old, old.run_id)
    gone = collected(old)
    assert [str(file.path) for file in gone.strangers] == [theirs]
    # Where a run of ours was, a file that came past us is ours.
    assert theirs in stored(old)
    assert of_ours not in stored(old)
    found = find_garbage(old.database, old.store, age_ms=30 * DAY_MS, progress=Silent(), strangers_too=True)
    assert [str(file.path) for file in found.files] == [theirs]
    assert kept in stored(old)


def test_what_was_deleted_yesterday_and_what_came_back_stay(old):
    before = stored(old)
    delete_run(old, old.run_id, at_ms=now_ms() + 39 * DAY_MS)
    assert collected(old).doomed.run_ids == ()
    delete_run(old, old.run_id)
    garbage = find_garbage(old.database, old.store, age_ms=30 * DAY_MS, progress=Silent())
    assert garbage.doomed.run_ids == (old.run_id,)
    with old.database.writing() as session:
        runs.restore_run(session, old.run_id)
    gone = remove_garbage(old.database, old.store, garbage, age_ms=30 * DAY_MS, progress=Silent())
    assert (gone.doomed.run_ids, gone.files) == ((), ())
    assert stored(old) == before


def test_what_a_version_was_made_from_outlives_its_owner(old):
    """Frozen or not: the second version's files came by other means, and were never seen."""
    with old.store.upload(ArtifactPath.parse(path_of(old.run_uri, "unseen/MLmodel"))) as unseen:
        unseen.write(b"flavors: {}\n")
        unseen.finish()
        unseen.publish()
    with old.database.writing() as session:
        models.create_model(session, "other", now_ms=1)
        claim = Claim(source=f"{old.run_uri}/unseen", run_id=old.run_id)
        policy = SourcePolicy(locate=old.store.locate)
        assert versions.create_version(session, "other", claim, policy=policy, now_ms=1).digest is None
        experiments.delete_experiment(session, old.experiment_id, now_ms=now_ms())
    before = stored(old)
    gone = collected(old)
    assert stored(old) == before
    assert gone.doomed.experiments == ()
    assert set(gone.doomed.kept) == {old.run_id, old.model_id}
    with old.database.writing() as session:
        models.delete_model(session, "iris", author="me", now_ms=1)
        models.delete_model(session, "other", author="me", now_ms=1)
    gone = collected(old)
    assert [one.name for one in gone.doomed.experiments] == ["irises ☘"]
    assert stored(old) == set()
    with old.database.reading() as session:
        assert [one.name for one in experiments.search_experiments(session, view=ViewType.ALL).items] == ["Default"]


def test_a_deleted_logged_model_goes_and_its_run_stays(old):
    with old.database.writing() as session:
        models.delete_model(session, "iris", author="me", now_ms=1)
        logged_models.delete_logged_model(session, old.model_id, now_ms=now_ms())
    gone = collected(old)
    assert (gone.doomed.model_ids, gone.doomed.run_ids) == ((old.model_id,), ())
    assert all(name.startswith(path_of(old.run_uri, "")) for name in stored(old))


def test_nothing_younger_than_a_day_can_be_asked_for(filled):
    with pytest.raises(TooYoung):
        find_garbage(filled.database, filled.store, age_ms=DAY_MS - 1, progress=Silent())
    upload(filled.database, filled.store, "999/nobody/stray.txt", b"stray")
    delete_run(filled, filled.run_id)
    assert collected(filled, age_ms=DAY_MS).files == ()


def test_the_verb_says_what_would_go_and_leaves_it(tmp_path, old):
    if not old.database.is_sqlite or not old.store.uri.startswith("file:"):
        pytest.skip("the verb's own business; what it calls is tried on all of them above")
    delete_run(old, old.run_id, at_ms=1)
    place = ["--database-url", str(old.database.url), "--artifact-root", str(tmp_path / "artifacts")]
    before = stored(old)
    said = CliRunner().invoke(cli, ["gc", "--dry-run", *place])
    assert said.exit_code == 0, said.output
    assert f"run {old.run_id}" in said.output
    assert "Would remove 0 experiments, 1 runs" in said.output
    assert stored(old) == before
    done = CliRunner().invoke(cli, ["gc", "--older-than", "4w", *place])
    assert "Removed 0 experiments, 1 runs" in done.output
    # Its files were written a moment ago, and stay until they are old.
    assert stored(old) == before
    wrong = CliRunner().invoke(cli, ["gc", "--older-than", "soon", *place])
    assert wrong.exit_code == 2
    assert "30d" in wrong.output
