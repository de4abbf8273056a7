"""The verbs for operators, beside a running server."""

import json
import threading

import httpx
import pytest
from mlflow import MlflowClient

from tests.gateway.test_cli import titlebout
from tests.gateway.test_serving import wait_until, wait_until_served
from tests.training import ROW, constant_classifier, register, set_alias


@pytest.mark.e2e
def test_a_server_that_is_logged_to_is_backed_up_and_served_again_from_the_copy(serve, tmp_path, postgres_database_url):
    server = serve()
    register(server.url, "iris", constant_classifier(0))
    set_alias(server.url, "iris", "champion", 1)
    stop, runs = threading.Event(), []
    client = MlflowClient(tracking_uri=server.url)

    def log():
        while not stop.is_set():
            run = client.create_run("0").info.run_id
            client.log_metric(run, "loss", 1.0)
            runs.append(run)

    logging = threading.Thread(target=log)
    logging.start()
    backup = tmp_path / "backup"
    try:
        wait_until(lambda: runs)
        before = set(runs)
        said = titlebout("backup", str(backup), "--data", str(server.data))
        refused = titlebout("restore", str(backup), "--data", str(server.data), "--force")
    finally:
        stop.set()
        logging.join()
    assert said.returncode == 0, said.stderr
    assert "read again" in said.stdout
    assert json.loads((backup / "backup.json").read_text())["database"] == "sqlite"
    assert refused.returncode == 1
    assert "Stop it first" in refused.stderr

    place = ("--data", str(tmp_path / "other"), "--database-url", postgres_database_url)
    back = titlebout("restore", str(backup), *place)
    assert back.returncode == 0, back.stderr
    assert "rows restored" in back.stdout
    other = serve(*place[2:], data=tmp_path / "other")
    restored = MlflowClient(tracking_uri=other.url)
    wait_until_served(other.url, "iris", champion=1)
    answer = httpx.post(f"{other.url}/invocations", json={"inputs": [ROW]})
    assert answer.json() == {"predictions": [0]}
    found = {run.info.run_id for run in restored.search_runs(["0"], max_results=50_000)}
    # All that was logged before it, and nothing that nobody logged.
    assert before <= found <= {*runs, *(run.info.run_id for run in client.search_runs(["0"], max_results=50_000))}
