"""Prompts as the stock MLflow client keeps them: registered models with tags, apart from models."""

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException


@pytest.fixture
def client(api_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(api_server)
    yield MlflowClient(tracking_uri=api_server, registry_uri=api_server)
    mlflow.set_tracking_uri(None)


@pytest.fixture
def greeting(client):
    """A prompt with two versions."""
    mlflow.genai.register_prompt("greeting", "Hello {{name}}", commit_message="first", tags={"tone": "warm"})
    mlflow.genai.register_prompt("greeting", "Good day, {{name}}")
    return "greeting"


def test_a_prompt_is_loaded_by_number_by_alias_and_by_its_newest_version(client, greeting):
    mlflow.genai.set_prompt_alias(greeting, alias="live", version=1)
    by_alias = mlflow.genai.load_prompt(f"prompts:/{greeting}@live")
    assert (by_alias.version, by_alias.template, by_alias.commit_message) == (1, "Hello {{name}}", "first")
    assert by_alias.format(name="Ada") == "Hello Ada"
    assert by_alias.tags["tone"] == "warm"
    assert mlflow.genai.load_prompt(f"prompts:/{greeting}/2").template == "Good day, {{name}}"
    assert mlflow.genai.load_prompt(f"prompts:/{greeting}@latest").version == 2


def test_an_alias_moves_and_goes(client, greeting):
    mlflow.genai.set_prompt_alias(greeting, alias="live", version=1)
    mlflow.genai.set_prompt_alias(greeting, alias="live", version=2)
    assert client.get_prompt_version_by_alias(greeting, "live").version == 2
    mlflow.genai.delete_prompt_alias(greeting, alias="live")
    assert mlflow.genai.load_prompt(f"prompts:/{greeting}@live", allow_missing=True) is None


def test_prompts_are_searched_apart_from_models(client, greeting):
    client.create_registered_model("iris")
    assert [one.name for one in mlflow.genai.search_prompts()] == [greeting]
    assert [one.name for one in mlflow.genai.search_prompts("name = 'none'")] == []
    assert [one.name for one in client.search_registered_models()] == ["iris"]
    found = client.search_prompt_versions(greeting)
    assert sorted(int(one.version) for one in found) == [1, 2]


def test_tags_of_a_prompt_and_of_its_versions_change(client, greeting):
    client.set_prompt_tag(greeting, "team", "bees")
    assert client.get_prompt(greeting).tags["team"] == "bees"
    client.delete_prompt_tag(greeting, "team")
    assert "team" not in client.get_prompt(greeting).tags
    client.set_prompt_version_tag(greeting, 1, "checked", "yes")
    assert mlflow.genai.load_prompt(f"prompts:/{greeting}/1").tags["checked"] == "yes"
    client.delete_prompt_version_tag(greeting, 1, "checked")
    assert "checked" not in client.get_prompt_version(greeting, 1).tags


def test_a_chat_prompt_keeps_its_messages(client):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{question}}"}]
    mlflow.genai.register_prompt("chat", messages)
    loaded = mlflow.genai.load_prompt("prompts:/chat/1")
    assert loaded.format(question="Why?")[1] == {"role": "user", "content": "Why?"}


def test_a_prompt_and_its_versions_are_deleted(client, greeting):
    client.delete_prompt_version(greeting, "1")
    with pytest.raises(MlflowException) as caught:
        client.get_prompt_version(greeting, 1)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"
    client.delete_prompt_version(greeting, "2")
    client.delete_prompt(greeting)
    assert mlflow.genai.load_prompt(f"prompts:/{greeting}/2", allow_missing=True) is None


def test_a_prompt_and_a_model_cannot_share_a_name(client, greeting):
    with pytest.raises(MlflowException) as caught:
        client.create_registered_model(greeting)
    assert "already taken by a prompt" in str(caught.value)
    client.create_registered_model("iris")
    with pytest.raises(MlflowException):
        mlflow.genai.register_prompt("iris", "Hello")


def test_a_prompt_used_in_a_run_is_noted_there(client, greeting):
    run_id = client.create_run("0").info.run_id
    client.link_prompt_version_to_run(run_id, f"prompts:/{greeting}/1")
    assert greeting in client.get_run(run_id).data.tags["mlflow.linkedPrompts"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_older_names_of_the_calls_work_too(client):
    mlflow.register_prompt("greeting", "Hello {{name}}")
    mlflow.set_prompt_alias("greeting", "live", 1)
    assert mlflow.load_prompt("prompts:/greeting@live").template == "Hello {{name}}"
    assert [one.name for one in mlflow.search_prompts()] == ["greeting"]
