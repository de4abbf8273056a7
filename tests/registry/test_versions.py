from concurrent.futures import ThreadPoolExecutor

import pytest

from registry import aliases, epochs, manifests, models, pins, serving, versions
from registry.endpoints import VersionInService
from registry.entities import SlotStatus
from registry.errors import (
    FilesStillComing,
    ModelVersionNotFound,
    NotAPromptSource,
    PromptAsSource,
    RegisteredModelNotFound,
    SourceNotAllowed,
    SourceNotOwned,
)
from registry.sources import Claim
from tracking import artifact_records, experiments, logged_models, runs
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_records import ArtifactFrozen
from tracking.entities import ModelOutput
from tracking.errors import InvalidParameter
from tracking.manifest import FileDigest, Manifest

NOW_MS = 1_700_000_000_000


# --- numbers


def test_concurrent_versions_never_share_a_number(iris, add_version):
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(lambda _: add_version().version, range(40)))
    assert sorted(numbers) == list(range(1, 41))


def test_a_deleted_versions_number_is_never_given_again(database, iris, add_version):
    add_version()
    add_version()
    with database.writing() as session:
        versions.delete_version(session, iris, 2, author="me", now_ms=NOW_MS)
    assert add_version().version == 3


def test_a_version_of_an_unknown_model_is_refused(database, add_version):
    with pytest.raises(RegisteredModelNotFound):
        add_version("nobody")


# --- what is said about a version


def test_a_new_version_has_what_it_was_given(database, iris, add_version):
    made = add_version(description="first", tags={"a": "b"}, run_link="https://runs.example/1", user_id="ann")
    with database.reading() as session:
        assert versions.get_version(session, iris, 1) == made
        assert models.get_model(session, iris).latest_versions == (made,)
    assert (made.description, made.tags, made.run_link, made.user_id) == (
        "first",
        {"a": "b"},
        "https://runs.example/1",
        "ann",
    )
    assert (made.stage, made.status, made.digest, made.aliases) == ("None", "READY", None, ())


def test_a_description_can_be_changed(database, iris, add_version):
    add_version()
    with database.writing() as session:
        versions.describe_version(session, iris, 1, "new", now_ms=NOW_MS + 5)
    with database.reading() as session:
        found = versions.get_version(session, iris, 1)
    assert (found.description, found.created_ms, found.updated_ms) == ("new", NOW_MS, NOW_MS + 5)


def test_tags_are_set_overwritten_and_deleted(database, iris, add_version):
    add_version()
    with database.writing() as session:
        versions.set_tag(session, iris, 1, "ok", "no")
        versions.set_tag(session, iris, 1, "ok", "yes")
        versions.set_tag(session, iris, 1, "other", "x")
        versions.delete_tag(session, iris, 1, "other")
        versions.delete_tag(session, iris, 1, "never set")
        with pytest.raises(InvalidParameter):
            versions.set_tag(session, iris, 1, "k", "v" * 100_001)
    with database.reading() as session:
        assert versions.get_version(session, iris, 1).tags == {"ok": "yes"}


def test_a_number_that_no_version_has_is_not_found(database, iris, add_version):
    add_version()
    for version in (0, -1, 2, 2**31, 2**63):
        with database.reading() as session, pytest.raises(ModelVersionNotFound):
            versions.get_version(session, iris, version)


# --- stages


def test_archiving_moves_only_the_others_in_that_stage(database, iris, add_version):
    for _ in range(3):
        add_version()
    with database.writing() as session:
        for version, stage in ((1, "production"), (2, "Staging")):
            versions.transition_stage(session, iris, version, stage, archive_existing=False, now_ms=NOW_MS)
        moved = versions.transition_stage(session, iris, 3, "PRODUCTION", archive_existing=True, now_ms=NOW_MS + 5)
    with database.reading() as session:
        stages = [versions.get_version(session, iris, version).stage for version in (1, 2, 3)]
    assert stages == ["Archived", "Staging", "Production"]
    assert moved.updated_ms == NOW_MS + 5


def test_a_transition_that_cant_be_is_refused(database, iris, add_version):
    add_version()
    for stage, archive in (("Prod", False), ("Archived", True), ("None", True)):
        with database.writing() as session, pytest.raises(InvalidParameter):
            versions.transition_stage(session, iris, 1, stage, archive_existing=archive, now_ms=NOW_MS)


# --- sources


@pytest.fixture
def run(database):
    with database.writing() as session:
        experiment_id = experiments.create_experiment(session, "flowers", now_ms=NOW_MS)
        return runs.create_run(session, experiment_id, start_time_ms=NOW_MS).info


@pytest.fixture
def logged(database, run):
    with database.writing() as session:
        return logged_models.create_logged_model(
            session, run.experiment_id, now_ms=NOW_MS, name="model", source_run_id=run.run_id
        )


@pytest.fixture
def register(database, iris, policy):
    def register(source, **claimed):
        with database.writing() as session:
            return versions.create_version(session, iris, Claim(source=source, **claimed), policy=policy, now_ms=NOW_MS)

    return register


def upload(database, folder, **files):
    """Record files as an upload would, without the bytes."""
    path = ArtifactPath.parse(folder.removeprefix("mlflow-artifacts:/"))
    digests = {ArtifactPath.parse(name): FileDigest(letter * 64, 1) for name, letter in files.items()}
    with database.writing() as session:
        for name, digest in digests.items():
            artifact_records.record_file(session, path / name, digest, NOW_MS)
    return path, Manifest(digests)


def test_a_logged_model_is_registered_from_its_folder_and_with_its_run(register, run, logged):
    made = register(f"models:/{logged.model_id}", model_id=logged.model_id)
    assert made.artifact_uri == logged.artifact_uri
    assert (made.run_id, made.model_id, made.source) == (run.run_id, logged.model_id, f"models:/{logged.model_id}")


def test_a_runs_uri_is_followed_to_the_runs_folder(register, run):
    made = register(f"runs:/{run.run_id}/deep/model", run_id=run.run_id)
    assert made.artifact_uri == f"{run.artifact_uri}/deep/model"
    assert (made.run_id, made.source) == (run.run_id, f"runs:/{run.run_id}/deep/model")


def test_a_runs_uri_finds_the_model_that_was_logged_beside_the_run(register, run, logged):
    made = register(f"runs:/{run.run_id}/model", run_id=run.run_id)
    assert (made.artifact_uri, made.model_id) == (logged.artifact_uri, logged.model_id)


def test_a_runs_own_files_come_before_a_model_that_was_logged_beside_it(database, register, run, logged):
    upload(database, f"{run.artifact_uri}/model", MLmodel="a")
    made = register(f"runs:/{run.run_id}/model", run_id=run.run_id)
    assert made.artifact_uri == f"{run.artifact_uri}/model"


def test_a_folder_of_the_store_belongs_to_its_run_or_logged_model(register, run, logged):
    assert register(f"{run.artifact_uri}/model", run_id=run.run_id).artifact_uri == f"{run.artifact_uri}/model"
    assert register(logged.artifact_uri, model_id=logged.model_id).artifact_uri == logged.artifact_uri


def test_what_lies_in_the_store_is_kept_under_the_stores_own_name(register, policy, tmp_path):
    for source in (f"file://{tmp_path}/artifacts/by/hand", f"{tmp_path}/artifacts/by/hand"):
        assert register(source).artifact_uri == "mlflow-artifacts:/by/hand"


def test_what_is_named_by_the_stores_own_uri_belongs_to_the_run_that_is_claimed(register, run, tmp_path):
    root = f"file://{tmp_path}/artifacts"
    path = run.artifact_uri.removeprefix("mlflow-artifacts:")
    assert register(f"{root}{path}/model", run_id=run.run_id).artifact_uri == f"{run.artifact_uri}/model"
    with pytest.raises(SourceNotOwned):
        register(f"{root}/by/hand", run_id=run.run_id)


def test_files_that_clients_put_there_themselves_are_held_only_once_they_are_loaded(database, register, tmp_path):
    with database.writing() as session:
        direct = experiments.create_experiment(
            session, "direct", now_ms=NOW_MS, artifact_root=f"file://{tmp_path}/artifacts"
        )
        run = runs.create_run(session, direct, start_time_ms=NOW_MS).info
    folder = f"{run.artifact_uri.removeprefix(f'file://{tmp_path}/artifacts')}/model".lstrip("/")
    # One file of several was changed through us since.
    upload(database, folder, MLmodel="a")
    made = register(f"{run.artifact_uri}/model", run_id=run.run_id)
    assert (made.artifact_uri, made.digest) == (f"mlflow-artifacts:/{folder}", None)


def test_a_folder_with_a_file_that_nobody_here_has_read_is_held_only_once_it_is_loaded(database, register, run):
    folder, _ = upload(database, f"{run.artifact_uri}/model", MLmodel="a")
    with database.writing() as session:
        artifact_records.expect_unread(session, folder / ArtifactPath.parse("weights"), NOW_MS)
    assert register(f"{run.artifact_uri}/model", run_id=run.run_id).digest is None


def test_what_lies_under_an_allowed_prefix_is_kept_as_it_is(register):
    assert register("s3://shared-models/iris/7").artifact_uri == "s3://shared-models/iris/7"


def test_a_source_that_isnt_proven_to_be_the_requests_own_is_refused(register, run, logged):
    other = "0" * 32
    for source, claimed in [
        (f"runs:/{run.run_id}/model", {}),
        (f"runs:/{run.run_id}/model", {"run_id": other}),
        (f"runs:/{other}/model", {"run_id": other}),
        (f"runs:/{run.run_id}/model", {"run_id": run.run_id, "model_id": logged.model_id}),
        (f"models:/{logged.model_id}", {}),
        (f"models:/{logged.model_id}", {"run_id": run.run_id}),
        ("models:/m-nobody", {"model_id": "m-nobody"}),
        (f"{run.artifact_uri}/model", {}),
        (f"{run.artifact_uri}/model", {"run_id": other}),
        (f"{run.artifact_uri}-more/model", {"run_id": run.run_id}),
        (logged.artifact_uri, {"run_id": run.run_id}),
        ("mlflow-artifacts:/", {"run_id": run.run_id}),
    ]:
        with pytest.raises(SourceNotOwned):
            register(source, **claimed)


def test_a_logged_model_comes_with_no_better_run_than_those_that_made_it(database, register, run, logged):
    with database.writing() as session:
        better, later = (
            runs.create_run(session, run.experiment_id, start_time_ms=NOW_MS).info.run_id for _ in range(2)
        )
        runs.log_outputs(session, later, [ModelOutput(model_id=logged.model_id)])
    for source in (f"models:/{logged.model_id}", logged.artifact_uri, f"{logged.artifact_uri}/more"):
        for claimed in (better, "0" * 32):
            with pytest.raises(SourceNotOwned, match="run_id"):
                register(source, model_id=logged.model_id, run_id=claimed)
    for claimed in (run.run_id, later):
        assert register(f"models:/{logged.model_id}", model_id=logged.model_id, run_id=claimed).run_id == claimed


def test_a_source_outside_of_the_store_is_refused_naming_the_setting(register, tmp_path):
    for source in (
        "s3://elsewhere/model",
        "s3://shared-models-too/model",
        "s3://shared-models",
        "file:///etc",
        "/etc/passwd",
        f"{tmp_path}/artifacts-too/model",
        f"{tmp_path}/artifacts",
        "https://models.example/iris",
        "relative/model",
        "dummy-source",
        "",
    ):
        with pytest.raises(SourceNotAllowed, match="TITLEBOUT_SOURCE_PREFIXES"):
            register(source)


def test_a_source_that_climbs_is_refused(register, run, tmp_path):
    for source in (
        "s3://shared-models/../elsewhere",
        "s3://shared-models/%2e%2e/elsewhere",
        "s3://shared-models/%252e%252e/elsewhere",
        "s3://shared-models/a\\..\\b",
        "s3://shared-models/a\0b",
        f"{tmp_path}/artifacts/../../etc",
        f"file://{tmp_path}/artifacts/%2e%2e/%2e%2e/etc",
        f"{run.artifact_uri}/../../../other",
        f"runs:/{run.run_id}/../../other",
    ):
        with pytest.raises(InvalidParameter):
            register(source, run_id=run.run_id)


def test_an_experiment_elsewhere_opens_no_way_around_the_policy(database, register):
    with database.writing() as session:
        experiment_id = experiments.create_experiment(
            session, "elsewhere", now_ms=NOW_MS, artifact_location="file:///etc"
        )
        run = runs.create_run(session, experiment_id, start_time_ms=NOW_MS).info
    with pytest.raises(SourceNotAllowed):
        register(f"runs:/{run.run_id}/ssl", run_id=run.run_id)


# --- copies


def test_a_copy_means_the_same_files_whatever_the_alias_means_later(database, register, run, logged):
    register(f"models:/{logged.model_id}", model_id=logged.model_id)
    with database.writing() as session:
        aliases.set_alias(session, "iris", "champion", 1, author="me", now_ms=NOW_MS)
    made = register("models:/iris@champion")
    assert made.source == "models:/iris/1"
    assert (made.artifact_uri, made.run_id, made.model_id) == (logged.artifact_uri, run.run_id, logged.model_id)


def test_a_copy_can_claim_no_other_run(register, run, logged):
    register(f"models:/{logged.model_id}", model_id=logged.model_id)
    with pytest.raises(SourceNotOwned):
        register("models:/iris/1", run_id="0" * 32)


def test_a_prompt_is_no_source(database, register, add_version):
    with database.writing() as session:
        models.create_model(session, "hello", tags={models.PROMPT_TAG: "true"}, now_ms=NOW_MS)
    add_version("hello", source="prompt-template", tags={models.PROMPT_TAG: "true"})
    with pytest.raises(PromptAsSource):
        register("models:/hello/1")


def test_a_prompts_source_is_a_placeholder_and_nothing_else(database, iris, add_version):
    with pytest.raises(NotAPromptSource):
        add_version(source="s3://shared-models/iris", tags={models.PROMPT_TAG: "true"})


# --- manifests


def test_registering_takes_the_manifest_of_what_was_uploaded_and_freezes_it(database, register, logged):
    folder, manifest = upload(database, logged.artifact_uri, MLmodel="a", model="b")
    made = register(f"models:/{logged.model_id}", model_id=logged.model_id)
    assert made.digest == manifest.digest
    with database.reading() as session:
        assert manifests.find_manifest(session, made) == manifest
        with pytest.raises(ArtifactFrozen, match="registered as iris version 1: log the change as a new version"):
            artifact_records.ensure_writable(session, folder / ArtifactPath.parse("MLmodel"))


def test_a_version_without_its_files_is_accepted_and_settled_later_for_good(database, register, logged):
    folder, _ = upload(database, logged.artifact_uri, conda="c")
    made = register(f"models:/{logged.model_id}", model_id=logged.model_id)
    assert made.digest is None
    _, manifest = upload(database, logged.artifact_uri, MLmodel="a", conda="c")
    other = Manifest({ArtifactPath.parse("MLmodel"): FileDigest("f" * 64, 1)})
    with database.writing() as session:
        artifact_records.ensure_writable(session, folder)
        assert versions.settle_digest(session, "iris", 1, manifest).digest == manifest.digest
        assert versions.settle_digest(session, "iris", 1, other).digest == manifest.digest
        with pytest.raises(ArtifactFrozen):
            artifact_records.ensure_writable(session, folder)


def test_a_version_is_not_settled_on_files_that_others_have_joined_since(database, register, logged):
    folder, manifest = upload(database, logged.artifact_uri, conda="c")
    register(f"models:/{logged.model_id}", model_id=logged.model_id)
    upload(database, logged.artifact_uri, MLmodel="a")
    with database.writing() as session, pytest.raises(FilesStillComing):
        versions.settle_digest(session, "iris", 1, manifest)
    with database.reading() as session:
        assert versions.get_version(session, "iris", 1).digest is None
        artifact_records.ensure_writable(session, folder)
    # What somebody put there by other means has no record, and is held like the rest.
    _, whole = upload(database, logged.artifact_uri, MLmodel="a", conda="c")
    files = {**whole.files, ArtifactPath.parse("model.bin"): FileDigest("f" * 64, 1)}
    with database.writing() as session:
        assert versions.settle_digest(session, "iris", 1, Manifest(files)).digest == Manifest(files).digest


def test_a_folder_stays_frozen_until_the_last_version_of_it_is_deleted(database, register, logged):
    folder, manifest = upload(database, logged.artifact_uri, MLmodel="a")
    register(f"models:/{logged.model_id}", model_id=logged.model_id)
    copy = register("models:/iris/1")
    assert copy.digest == manifest.digest
    with database.writing() as session:
        versions.delete_version(session, "iris", 1, author="me", now_ms=NOW_MS)
        assert manifests.find_manifest(session, copy) == manifest
        with pytest.raises(ArtifactFrozen, match="version 2"):
            artifact_records.ensure_writable(session, folder)
        versions.delete_version(session, "iris", 2, author="me", now_ms=NOW_MS)
        artifact_records.ensure_writable(session, folder)


def test_a_freeze_follows_a_rename_and_ends_with_the_model(database, register, logged):
    folder, manifest = upload(database, logged.artifact_uri, MLmodel="a")
    register(f"models:/{logged.model_id}", model_id=logged.model_id)
    with database.writing() as session:
        models.rename_model(session, "iris", "lily", author="me", now_ms=NOW_MS)
        assert manifests.find_manifest(session, versions.get_version(session, "lily", 1)) == manifest
        with pytest.raises(ArtifactFrozen, match="registered as lily version 1"):
            artifact_records.ensure_writable(session, folder)
        models.delete_model(session, "lily", author="me", now_ms=1)
        artifact_records.ensure_writable(session, folder)


def test_a_digest_of_files_outside_of_the_store_is_settled_and_copied(database, register):
    register("s3://shared-models/iris")
    manifest = Manifest({ArtifactPath.parse("MLmodel"): FileDigest("a" * 64, 1)})
    with database.writing() as session:
        versions.settle_digest(session, "iris", 1, manifest)
    assert register("models:/iris/1").digest == manifest.digest


# --- deleting


def test_a_deleted_version_takes_its_aliases_tags_and_pin_along(database, iris, add_version):
    add_version(tags={"a": "b"})
    add_version()
    with database.writing() as session:
        pins.pin(session, iris, 1, author="me", now_ms=NOW_MS)
        aliases.set_alias(session, iris, "canary", 1, author="me", now_ms=NOW_MS)
        aliases.set_alias(session, iris, "other", 2, author="me", now_ms=NOW_MS)
        versions.delete_version(session, iris, 1, author="me", now_ms=NOW_MS + 5)
    with database.reading() as session:
        model = models.get_model(session, iris)
        assert pins.list_pins(session) == []
        with pytest.raises(ModelVersionNotFound):
            versions.get_version(session, iris, 1)
    assert (model.aliases, model.updated_ms) == ({"other": 2}, NOW_MS + 5)


def test_a_version_that_answers_requests_cant_be_deleted_nor_can_its_model(database, iris, add_version):
    add_version()
    with database.writing() as session:
        aliases.set_alias(session, iris, "champion", 1, author="me", now_ms=NOW_MS)
    with database.writing() as session:
        ready = [SlotStatus(model=iris, version=1, state="READY")]
        serving.heartbeat(session, "a", slots=ready, epoch=0, now_ms=NOW_MS, lease_ms=5_000)
        epochs.commit_epoch(session, now_ms=NOW_MS, lead_ms=0)
    with database.writing() as session:
        with pytest.raises(VersionInService):
            versions.delete_version(session, iris, 1, author="me", now_ms=NOW_MS)
        with pytest.raises(VersionInService):
            models.delete_model(session, iris, author="me", now_ms=1)
    with database.reading() as session:
        assert versions.get_version(session, iris, 1).aliases == ("champion",)


def test_deleting_and_registering_at_once_leaves_no_orphan(database, iris, add_version):
    def delete_one(_):
        with database.writing() as session:
            newest = models.get_latest_versions(session, iris)
            if newest:
                try:
                    versions.delete_version(session, iris, newest[-1].version, author="me", now_ms=NOW_MS)
                except ModelVersionNotFound:  # another thread was first
                    return

    with ThreadPoolExecutor(6) as threads:
        made = [threads.submit(add_version) for _ in range(12)]
        list(threads.map(delete_one, range(12)))
    assert sorted(one.result().version for one in made) == list(range(1, 13))
