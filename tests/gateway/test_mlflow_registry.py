"""The registry as the stock MLflow client sees it, and as somebody who sends anything at all does."""

import httpx
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

MLFLOW = "/api/2.0/mlflow"


@pytest.fixture
def client(api_server):
    return MlflowClient(tracking_uri=api_server, registry_uri=api_server)


@pytest.fixture
def run(client):
    return client.create_run(client.create_experiment("flowers"))


@pytest.fixture
def iris(client):
    return client.create_registered_model("iris", tags={"team": "a"}, description="flowers").name


@pytest.fixture
def add_version(client, run, iris):
    def add(name=iris, **given):
        source = f"{run.info.artifact_uri}/model"
        return client.create_model_version(name, source, run_id=run.info.run_id, **given)

    return add


def error_code(caught):
    return caught.value.error_code


def test_a_registered_model_comes_back_as_it_was_made(client, iris, add_version):
    add_version()
    client.set_registered_model_alias(iris, "champion", "1")
    client.set_registered_model_tag(iris, "tier", 1)
    client.delete_registered_model_tag(iris, "team")
    client.update_registered_model(iris, "lilies too")
    found = client.get_registered_model(iris)
    assert (found.name, found.description, found.tags) == (iris, "lilies too", {"tier": "1"})
    assert found.aliases == {"champion": "1"}
    assert [(one.version, one.current_stage) for one in found.latest_versions] == [("1", "None")]
    assert found.creation_timestamp <= found.last_updated_timestamp


def test_a_name_is_taken_once_and_the_client_recognises_it(client, iris):
    with pytest.raises(MlflowException) as caught:
        client.create_registered_model(iris)
    assert error_code(caught) == "RESOURCE_ALREADY_EXISTS"


def test_a_rename_and_a_delete(client, iris, add_version):
    add_version()
    client.rename_registered_model(iris, "lily")
    assert client.get_model_version("lily", "1").name == "lily"
    client.delete_registered_model("lily")
    with pytest.raises(MlflowException) as caught:
        client.get_registered_model("lily")
    assert error_code(caught) == "RESOURCE_DOES_NOT_EXIST"


def test_a_version_comes_back_as_it_was_made(client, run, iris, add_version):
    made = add_version(description="first", tags={"a": "b"}, run_link="https://runs.example/1")
    client.set_model_version_tag(iris, "1", "ok", "yes")
    client.delete_model_version_tag(iris, "1", "a")
    client.update_model_version(iris, "1", "better")
    client.set_registered_model_alias(iris, "champion", "1")
    found = client.get_model_version(iris, "1")
    assert (made.version, made.description, made.tags, made.run_link) == (
        "1",
        "first",
        {"a": "b"},
        "https://runs.example/1",
    )
    assert (found.version, found.description, found.tags) == ("1", "better", {"ok": "yes"})
    assert (found.status, found.current_stage, found.aliases) == ("READY", "None", ["champion"])
    assert (found.run_id, found.source) == (run.info.run_id, f"{run.info.artifact_uri}/model")
    assert client.get_model_version_download_uri(iris, "1") == f"{run.info.artifact_uri}/model"


def test_versions_are_deleted_and_their_numbers_not_given_again(client, iris, add_version):
    add_version()
    client.delete_model_version(iris, "1")
    with pytest.raises(MlflowException) as caught:
        client.get_model_version(iris, "1")
    assert error_code(caught) == "RESOURCE_DOES_NOT_EXIST"
    assert add_version().version == "2"


def test_aliases_are_set_moved_and_deleted(client, iris, add_version):
    add_version()
    add_version()
    client.set_registered_model_alias(iris, "champion", "1")
    client.set_registered_model_alias(iris, "champion", "2")
    assert client.get_model_version_by_alias(iris, "champion").version == "2"
    client.delete_registered_model_alias(iris, "champion")
    client.delete_registered_model_alias(iris, "champion")
    with pytest.raises(MlflowException) as caught:
        client.get_model_version_by_alias(iris, "champion")
    assert error_code(caught) == "INVALID_PARAMETER_VALUE"
    assert client.get_model_version_by_alias(iris, "latest").version == "2"


@pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")
def test_stages_are_labels_that_can_be_archived(client, iris, add_version):
    add_version()
    add_version()
    client.transition_model_version_stage(iris, "1", "production")
    moved = client.transition_model_version_stage(iris, "2", "Production", archive_existing_versions=True)
    assert moved.current_stage == "Production"
    latest = client.get_latest_versions(iris, ["Production", "archived"])
    assert {one.current_stage: one.version for one in latest} == {"Production": "2", "Archived": "1"}


def test_models_are_searched_in_pages(client):
    for name in ("ant", "bee", "cat"):
        client.create_registered_model(name, tags={"kind": "animal"})
    first = client.search_registered_models("tags.kind = 'animal'", max_results=2, order_by=["name DESC"])
    rest = client.search_registered_models(
        "tags.kind = 'animal'", max_results=2, order_by=["name DESC"], page_token=first.token
    )
    assert [model.name for model in [*first, *rest]] == ["cat", "bee", "ant"]
    assert not rest.token


def test_versions_are_searched_by_what_they_come_from(client, run, iris, add_version):
    add_version(tags={"approved": "yes"})
    add_version()
    assert [one.version for one in client.search_model_versions(f"name = '{iris}'")] == ["2", "1"]
    assert [one.version for one in client.search_model_versions("tags.approved = 'yes'")] == ["1"]
    assert len(client.search_model_versions(f"run_id = '{run.info.run_id}'")) == 2
    ordered = client.search_model_versions(f"name = '{iris}'", order_by=["version_number ASC"], max_results=1)
    assert ([one.version for one in ordered], bool(ordered.token)) == (["1"], True)


def test_a_version_is_copied_to_another_model(client, iris, add_version):
    add_version(description="d")
    copied = client.copy_model_version(f"models:/{iris}/1", "lily")
    assert (copied.name, copied.version, copied.source) == ("lily", "1", f"models:/{iris}/1")
    assert client.get_model_version_download_uri("lily", "1") == client.get_model_version_download_uri(iris, "1")


def test_the_files_of_a_registered_version_can_no_longer_be_changed(client, run, iris, add_version, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/MLmodel").write_text("flavors: {}")
    client.log_artifacts(run.info.run_id, tmp_path / "model", "model")
    add_version()
    with pytest.raises(requests.HTTPError, match="registered as iris version 1: log the change as a new version"):
        client.log_text(run.info.run_id, "flavors: {other: {}}", "model/MLmodel")
    client.delete_model_version(iris, "1")
    client.log_text(run.info.run_id, "flavors: {other: {}}", "model/MLmodel")


def test_prompts_are_kept_apart_from_models(client, iris):
    client.register_prompt("greeting", "Hello {{name}}", tags={"tone": "warm"})
    client.set_prompt_alias("greeting", "champion", 1)
    assert client.load_prompt("prompts:/greeting@champion").template == "Hello {{name}}"
    assert [model.name for model in client.search_registered_models()] == [iris]
    assert [prompt.name for prompt in client.search_prompts()] == ["greeting"]


# --- what no client of MLflow's would send


def call(api_server, method, path, **given):
    answer = httpx.request(method, f"{api_server}{path}", **given)
    return answer.status_code, answer.json()


def test_an_answer_has_numbers_as_numbers_versions_as_strings_and_nothing_empty(api_server, iris, add_version):
    add_version()
    _, answer = call(api_server, "GET", f"{MLFLOW}/model-versions/get", params={"name": iris, "version": "1"})
    version = answer["model_version"]
    assert version["version"] == "1"
    assert isinstance(version["creation_timestamp"], int)
    assert None not in version.values()
    assert "aliases" not in version


def test_mlflows_pages_find_the_same_under_their_own_path(api_server, iris):
    status, answer = call(api_server, "GET", "/ajax-api/2.0/mlflow/registered-models/get", params={"name": iris})
    assert (status, answer["registered_model"]["name"]) == (200, iris)


def test_empty_answers_are_empty_objects(api_server, iris):
    body = {"name": iris, "key": "k", "value": "v", "a field of tomorrow": 1}
    assert call(api_server, "POST", f"{MLFLOW}/registered-models/set-tag", json=body) == (200, {})


def test_latest_versions_are_asked_for_by_either_method(api_server, iris, add_version):
    add_version()
    path = f"{MLFLOW}/registered-models/get-latest-versions"
    by_query = call(api_server, "GET", path, params={"name": iris, "stages": ["None", "Staging"]})
    by_body = call(api_server, "POST", path, json={"name": iris})
    assert by_query == by_body
    assert len(by_body[1]["model_versions"]) == 1


def test_bad_requests_are_answered_as_such(api_server, iris, add_version):
    add_version()
    names, versions = f"{MLFLOW}/registered-models", f"{MLFLOW}/model-versions"
    for method, path, given in [
        ("POST", f"{names}/create", {"json": {}}),
        ("POST", f"{names}/create", {"json": {"name": ""}}),
        ("POST", f"{names}/create", {"json": {"name": 7}}),
        ("POST", f"{names}/create", {"json": {"name": "a/b"}}),
        ("POST", f"{names}/create", {"json": {"name": "a\0"}}),
        ("POST", f"{names}/create", {"json": {"name": "x", "tags": "no list"}}),
        ("POST", f"{names}/create", {"json": {"name": "x", "tags": [{"value": "no key"}]}}),
        ("POST", f"{names}/create", {"json": []}),
        ("GET", f"{names}/get", {}),
        ("GET", f"{names}/get", {"params": {"name": "a\0"}}),
        ("GET", f"{names}/search", {"params": {"max_results": "1001"}}),
        ("GET", f"{names}/search", {"params": {"max_results": "many"}}),
        ("GET", f"{names}/search", {"params": {"filter": "name = 'a' AND AND name = 'b'"}}),
        ("GET", f"{names}/search", {"params": {"page_token": "nonsense"}}),
        ("GET", f"{names}/alias", {"params": {"name": iris, "alias": "nobody"}}),
        ("POST", f"{names}/alias", {"json": {"name": iris, "alias": "latest", "version": "1"}}),
        ("POST", f"{names}/alias", {"json": {"name": iris, "alias": "ok", "version": "one"}}),
        ("POST", f"{names}/alias", {"json": {"name": iris, "alias": "ok", "version": "9" * 5000}}),
        ("GET", f"{versions}/get", {"params": {"name": iris, "version": "1.5"}}),
        ("GET", f"{versions}/search", {"params": {"max_results": "200001"}}),
        ("POST", f"{versions}/create", {"json": {"name": iris, "source": "s3://elsewhere/m"}}),
        ("POST", f"{versions}/create", {"json": {"name": iris, "source": "/etc/passwd"}}),
        ("POST", f"{versions}/create", {"json": {"name": iris, "source": "mlflow-artifacts:/../x"}}),
        ("POST", f"{versions}/transition-stage", {"json": {"name": iris, "version": "1", "stage": "Prod"}}),
        ("POST", f"{versions}/set-tag", {"json": {"name": iris, "version": "1", "key": "k", "value": "v" * 100_001}}),
    ]:
        status, answer = call(api_server, method, path, **given)
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), (method, path, given, answer)
        assert answer["message"]


def test_a_body_that_cant_be_read_is_a_bad_request(api_server):
    for content in (b"", b"{", b"\xff", b'{"name": "\\ud800"}', b"[" * 10_000):
        headers = {"Content-Type": "application/json"}
        status, answer = call(
            api_server, "POST", f"{MLFLOW}/registered-models/create", content=content, headers=headers
        )
        assert (status, set(answer)) == (400, {"error_code", "message"}), content[:20]


def test_what_isnt_there_is_not_found(api_server, iris):
    names, versions = f"{MLFLOW}/registered-models", f"{MLFLOW}/model-versions"
    for method, path, given in [
        ("GET", f"{names}/get", {"params": {"name": "nobody"}}),
        ("GET", f"{names}/alias", {"params": {"name": "nobody", "alias": "champion"}}),
        ("POST", f"{names}/alias", {"json": {"name": iris, "alias": "champion", "version": "1"}}),
        ("DELETE", f"{names}/delete", {"json": {"name": "nobody"}}),
        ("GET", f"{versions}/get", {"params": {"name": iris, "version": "2147483648"}}),
        ("DELETE", f"{versions}/delete", {"json": {"name": iris, "version": "1"}}),
        ("POST", f"{versions}/create", {"json": {"name": "nobody", "source": "s3://elsewhere/m"}}),
    ]:
        status, answer = call(api_server, method, path, **given)
        assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST"), (method, path, given, answer)


def test_a_refused_source_says_which_setting_would_allow_it(api_server, iris):
    body = {"name": iris, "source": "s3://elsewhere/m"}
    _, answer = call(api_server, "POST", f"{MLFLOW}/model-versions/create", json=body)
    assert "TITLEBOUT_SOURCE_PREFIXES" in answer["message"]
