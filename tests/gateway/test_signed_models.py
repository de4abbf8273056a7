"""Where only signed versions may run code: unsigned ones wait, and load once a trusted key has signed them."""

import httpx
import pytest
from click.testing import CliRunner

from gateway.cli import cli
from registry.signing.keys import new_key
from tests.gateway.test_serving import ask, wait_until, wait_until_served
from tests.training import constant_classifier, mlflow, register, set_alias

pytestmark = pytest.mark.e2e


@pytest.fixture
def keys(tmp_path):
    """A folder of trusted keys beside the private ones: `release` is trusted, `stranger` isn't."""
    (tmp_path / "keys").mkdir()
    new_key(tmp_path / "release.pem").rename(tmp_path / "keys" / "release.pem")
    new_key(tmp_path / "stranger.pem")
    return tmp_path / "keys"


def titlebout(server, *arguments):
    done = CliRunner().invoke(cli, [*arguments, "--server", server.url])
    return done.output if done.exit_code == 0 else str(done.exception)


def test_a_pickle_serves_once_a_trusted_key_has_signed_it_and_nothing_stops_until_then(serve, keys, tmp_path):
    settings = {
        "TITLEBOUT_CODE_POLICY": "signed",
        "TITLEBOUT_TRUSTED_KEYS": str(keys),
        # What it waits for comes at once here.
        "TITLEBOUT_RETRY_MAX_S": "1",
    }
    server = serve(environment=settings)

    def problem(saying):
        return any(saying in said for said in problems())

    def problems():
        return httpx.get(f"{server.url}/api/1.0/titlebout/endpoints/iris").json()["problems"]

    # A format without code needs nobody's word.
    register(server.url, "iris", constant_classifier(0))
    set_alias(server.url, "iris", "champion", 1)
    wait_until_served(server.url, "iris", champion=1)

    register(server.url, "iris", constant_classifier(1), serialization_format="pickle")
    set_alias(server.url, "iris", "champion", 2)
    wait_until(lambda: problem("it has no signature, which `titlebout sign iris 2 --key FILE` makes"))
    assert ask(server.url).json() == {"predictions": [0]}
    assert "has no signature" in titlebout(server, "verify", "iris", "2", "--keys", str(keys))

    titlebout(server, "sign", "iris", "2", "--key", str(tmp_path / "stranger.pem"))
    wait_until(lambda: problem("that it is signed by is not trusted"))
    assert ask(server.url).json() == {"predictions": [0]}

    files = mlflow.artifacts.download_artifacts("models:/iris/2", dst_path=str(tmp_path / "files"))
    release = str(tmp_path / "release.pem")
    said = titlebout(server, "sign", "iris", "2", "--key", release, "--files", files)
    assert said.startswith("Version 2 of iris is signed by the key ")
    wait_until_served(server.url, "iris", champion=2)
    assert ask(server.url).json() == {"predictions": [1]}
    said = titlebout(server, "verify", "iris", "2", "--keys", str(keys), "--files", files)
    assert said.startswith("Version 2 of iris is signed by release.pem (key ")

    # Other files than those that were registered are not signed.
    (tmp_path / "files" / "MLmodel").write_text("flavors: {}")
    refusal = titlebout(server, "sign", "iris", "2", "--key", release, "--files", files)
    assert refusal == f"'MLmodel' in {files} is not the file that was registered."

    # A copy under another name is another subject, with the same signature or without.
    client = mlflow.MlflowClient(server.url)
    client.copy_model_version("models:/iris/2", "roses")
    (bundle, _) = httpx.get(f"{server.url}/api/1.0/titlebout/models/iris/versions/2/signatures").json()["signatures"]
    path = f"{server.url}/api/1.0/titlebout/models/roses/versions/1/signatures"
    refused = httpx.put(path, json={"bundle": bundle["bundle"]})
    assert (refused.status_code, refused.json()["message"]) == (400, "The signature is for models:/iris/2.")
    client.set_registered_model_alias("roses", "champion", "1")

    # A key that is taken away stops loads; what is in memory serves on.
    (keys / "release.pem").unlink()
    register(server.url, "iris", constant_classifier(2), serialization_format="pickle")
    titlebout(server, "sign", "iris", "3", "--key", release)
    set_alias(server.url, "iris", "champion", 3)
    wait_until(lambda: problem("version 3") and problem("no key is trusted"))
    assert ask(server.url).json() == {"predictions": [1]}
    assert not httpx.get(f"{server.url}/api/1.0/titlebout/endpoints/roses").json()["serving"]
