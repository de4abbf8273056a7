"""`titlebout sign` and `verify` against the API: what is signed, and what they refuse to sign."""

import httpx
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from gateway.cli import cli


def titlebout(*arguments):
    done = CliRunner().invoke(cli, [*map(str, arguments)])
    return done.output if done.exit_code == 0 else str(done.exception)


@pytest.fixture
def key(tmp_path):
    assert "release.pub.pem goes into the folder" in titlebout("sign", "--new-key", tmp_path / "release.pem")
    return tmp_path / "release.pem"


@pytest.fixture
def keys(tmp_path, key):
    (tmp_path / "keys").mkdir()
    (tmp_path / "release.pub.pem").rename(tmp_path / "keys" / "release.pub.pem")
    return tmp_path / "keys"


@pytest.fixture
def add_version(api_server):
    """Makes version 1 of a model, whose one file is there already or not."""

    def add(name, *, uploaded):
        client = MlflowClient(api_server)
        run = client.create_run(client.create_experiment(name))
        if uploaded:
            client.log_text(run.info.run_id, "flavors: {}", "model/MLmodel")
        client.create_registered_model(name)
        client.create_model_version(name, f"{run.info.artifact_uri}/model", run_id=run.info.run_id)

    return add


def test_a_version_is_signed_by_the_servers_list_and_verified_by_it(api_server, add_version, key, keys):
    add_version("iris", uploaded=True)
    options = ("--server", api_server)
    assert "it has no signature" in titlebout("verify", "iris", 1, "--keys", keys, *options)
    assert titlebout("sign", "iris", 1, "--key", key, *options).startswith("Version 1 of iris is signed by the key ")
    said = titlebout("verify", "iris", 1, "--keys", keys, *options)
    assert said.startswith("Version 1 of iris is signed by release.pub.pem (key ")
    assert "brought by local" in said

    path = f"{api_server}/api/1.0/titlebout/models/iris/versions/1/signatures"
    (kept,) = httpx.get(path).json()["signatures"]
    assert httpx.delete(f"{path}/{kept['key_id']}").status_code == 200
    assert httpx.delete(f"{path}/{kept['key_id']}").status_code == 404
    assert "it has no signature" in titlebout("verify", "iris", 1, "--keys", keys, *options)


def test_a_version_whose_files_the_server_does_not_list_is_signed_by_ones_own(
    api_server, add_version, key, keys, tmp_path
):
    add_version("early", uploaded=False)
    options = ("--server", api_server)
    assert "has no list of the files" in titlebout("sign", "early", 1, "--key", key, *options)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    signed = titlebout("sign", "early", 1, "--key", key, "--files", tmp_path / "model", *options)
    assert signed.startswith("Version 1 of early is signed by the key ")
    said = titlebout("verify", "early", 1, "--keys", keys, "--files", tmp_path / "model", *options)
    assert said.startswith("Version 1 of early is signed by release.pub.pem")


def test_what_is_no_signature_is_refused_in_a_sentence(api_server, add_version):
    path = f"{api_server}/api/1.0/titlebout/models/iris/versions/1/signatures"
    assert httpx.put(path, json={"bundle": "{}"}).status_code == 404
    add_version("iris", uploaded=True)
    for body, said in (
        ({"bundle": "{}"}, "Sigstore bundle"),
        ({"bundle": "\0"}, "NUL"),
        ({"bundle": 5}, "bundle"),
        ({}, "bundle"),
        ({"bundle": "{}", "more": 1}, "more"),
    ):
        refused = httpx.put(path, json=body)
        assert (refused.status_code, said in refused.json()["message"]) == (400, True)
