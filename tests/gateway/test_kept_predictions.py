"""The prediction log of a running server: asked by several rows, read by pandas and by DuckDB as its page says."""

import json
import re
import subprocess
import sys
import textwrap
from hashlib import sha256

import httpx
import pytest

from gateway.cli import main
from gateway.cli.server_process import free_port, server_process
from gateway.comparison import kept_sums
from gateway.comparison.sums import CLASSES, Column
from gateway.settings import Settings
from registry import endpoints
from tests.deployment.tools import ROOT
from tests.gateway.test_serving import wait_until, wait_until_served
from tests.training import ROW, constant_classifier, register, set_alias
from tracking.artifact_paths import PREDICTIONS
from tracking.database import Database

pytestmark = pytest.mark.e2e

ID = "X-Titlebout-Prediction-Id"
PAGE = (ROOT / "docs/prediction-log.md").read_text()
BY_DUCKDB = """
import duckdb, json, sys
found = duckdb.sql(sys.argv[1])
print(json.dumps(found.fetchall() if found else [], default=str))
"""
ARMS = {"champion": (1, "0"), "challenger": (2, "1")}
"""The version of each, and what it answers."""


def examples(language):
    return [textwrap.dedent(code) for code in re.findall(rf"(?ms)^```{language}\n(.*?)^```", PAGE)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A server that keeps all predictions, its answers to a hundred requests of three rows, and the split's period."""
    environment = {
        "TITLEBOUT_PREDICTION_LOG_SHARE": "1",
        "TITLEBOUT_PREDICTION_LOG_INPUTS": "true",
        "TITLEBOUT_PREDICTION_LOG_FILE_S": "1",
    }
    data = tmp_path_factory.mktemp("kept") / "data"
    with server_process(data, "--workers", "2", port=free_port(), environment=environment) as server:
        for answer in (0, 1):
            register(server.url, "iris", constant_classifier(answer))
        set_alias(server.url, "iris", "champion", 1)
        set_alias(server.url, "iris", "challenger", 2)
        client = wait_until_served(server.url, "iris", champion=1, challenger=2)
        period = client.change_split("iris", {"champion": 5_000, "challenger": 5_000})["period"]
        wait_until(lambda: client.endpoint("iris")["serving_period"] == period)
        answers = [ask_three(server.url, number) for number in range(100)]
        yield server, answers, period


def ask_three(url, number):
    body = {"inputs": [ROW, [float(number), *ROW[1:]], ROW]}
    answer = httpx.post(
        f"{url}/endpoints/iris/invocations", json=body, headers={"X-Titlebout-Unit": f"unit-{number}"}, timeout=30
    )
    assert answer.is_success, answer.text
    return answer


def rows_of(server):
    import pandas as pd

    folder = server.data / "artifacts" / PREDICTIONS
    return pd.read_parquet(folder) if folder.exists() else pd.DataFrame({"prediction_id": []})


@pytest.fixture(scope="module")
def rows(kept):
    server, answers, _ = kept
    wait_until(lambda: rows_of(server)["prediction_id"].nunique() == len(answers))
    return rows_of(server)


def test_every_row_of_every_answer_is_kept_under_its_id_with_who_gave_it_and_what_was_asked(kept, rows):
    _, answers, period = kept
    assert len(rows) == 300
    by_id = {key: group.sort_values("row") for key, group in rows.groupby("prediction_id")}
    for number, answer in enumerate(answers):
        group = by_id[answer.headers[ID]]
        arm = answer.headers["X-Titlebout-Arm"]
        version, label = ARMS[arm]
        assert group["row"].tolist() == [0, 1, 2]
        assert set(zip(group["arm"], group["version"], group["label"], group["prediction"], strict=True)) == {
            (arm, version, label, label)
        }
        assert set(group["period"]) == {period}
        assert len(set(group["bucket"])) == 1
        assert [f'"sepal length (cm)":{length}' in row for length, row in zip(
            (ROW[0], float(number), ROW[0]), group["input"], strict=True
        )] == [True] * 3  # fmt: skip
    assert {answer.headers["X-Titlebout-Arm"] for answer in answers} == set(ARMS)


def test_what_the_page_says_to_read_it_by_works(kept, rows, tmp_path, monkeypatch, capsys):
    server, answers, _ = kept
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(server.data)
    label_all(answers, tmp_path / "labels.csv")
    counts, joined = (by_duckdb(query) for query in examples("sql"))
    said = {arm: 3 * sum(answer.headers["X-Titlebout-Arm"] == arm for answer in answers) for arm in ARMS}
    assert [tuple(row[1:]) for row in counts] == [
        (1, "champion", "0", said["champion"]),
        (2, "challenger", "1", said["challenger"]),
    ]
    assert [tuple(row) for row in joined] == [
        ("challenger", 2, pytest.approx(2 / 3), said["challenger"]),
        ("champion", 1, pytest.approx(1 / 3), said["champion"]),
    ]
    by_pandas, is_kept = examples("python")
    exec(by_pandas, {})
    assert str(said["challenger"]) in capsys.readouterr().out
    names = {"sha256": sha256}
    exec(is_kept, names)
    some = rows["prediction_id"].unique()
    assert all(names["is_kept"](one, 1) for one in some)
    assert 0 < sum(names["is_kept"](one, 0.3) for one in some) < len(some)


def test_labels_of_rows_count_once_for_the_arms_that_answered(kept, rows, tmp_path, capsys):
    server, answers, period = kept
    label_all(answers, tmp_path / "labels.csv", name="label")
    for said in ("0 accepted, 300 waiting, 0 repeated", "0 accepted, 0 waiting, 300 repeated"):
        titlebout("feedback", "--file", str(tmp_path / "labels.csv"), "--server", server.url)
        assert said in capsys.readouterr().out
    url = f"{server.url}/api/1.0/titlebout/endpoints/iris/feedback"
    wait_until(lambda: httpx.get(url, timeout=30).json()["counts"].get("accepted") == 300)
    assert httpx.get(url, timeout=30).json()["counts"] == {"waiting": 300, "repeated": 300, "accepted": 300}
    database = Database(Settings(data=str(server.data)).database)
    with database.reading() as session:
        sums = kept_sums.read(session, endpoints.get_endpoint(session, "iris").id).tally(CLASSES).cells
    database.dispose()
    by_arm = {
        (cell.period, cell.arm): (one.row(Column.LABELS).sum(), one.row(Column.CORRECT).sum())
        for cell, one in sums.items()
    }
    asked = {arm: sum(answer.headers["X-Titlebout-Arm"] == arm for answer in answers) for arm in ARMS}
    # Two of each answer's rows are labelled as the challenger answers all, and one as the champion does.
    assert by_arm == {
        (period, "champion"): (3 * asked["champion"], asked["champion"]),
        (period, "challenger"): (3 * asked["challenger"], 2 * asked["challenger"]),
    }


def label_all(answers, path, name="truth"):
    """Say of each answer's rows that they should have been 1, 0 and 1."""
    labels = "".join(f"{answer.headers[ID]},{row},{truth}\n" for answer in answers for row, truth in enumerate("101"))
    path.write_text(f"prediction_id,row,{name}\n{labels}")


def test_the_files_are_listed_and_fetched_by_whoever_asks_for_the_endpoint(kept, rows, tmp_path, capsys):
    import pandas as pd

    server, _, _ = kept
    url = f"{server.url}/api/1.0/titlebout/endpoints/iris/predictions"
    said = httpx.get(url, params={"since_ms": 0}, timeout=30).json()
    assert said["folder"] == f"{PREDICTIONS}/{said['endpoint_id']}"
    assert {file["date"] for file in said["files"]} == {at.date().isoformat() for at in rows["at"]}
    assert httpx.get(url, params={"since_ms": 4_000_000_000_000}, timeout=30).json()["files"] == []
    assert httpx.get(url, params={"since_ms": -1}, timeout=30).status_code == 400
    for missing in (f"{url}/2026-01-01/none", url.replace("iris", "nobody")):
        assert httpx.get(missing, timeout=30).status_code == 404
    titlebout("predictions", "iris", "--server", server.url)
    assert f"Files: {len(said['files'])}, below {said['folder']}" in capsys.readouterr().out
    for expected in (f"Files: {len(said['files'])} fetched", "Files: 0 fetched"):
        titlebout("predictions", "iris", "--since", "1h", "--to", str(tmp_path / "some"), "--server", server.url)
        assert expected in capsys.readouterr().out
    pd.testing.assert_frame_equal(in_order(pd.read_parquet(tmp_path / "some")), in_order(rows))


def in_order(rows):
    return rows.drop(columns="date").sort_values(["prediction_id", "row"], ignore_index=True)


def by_duckdb(query):
    """The rows of its answer. In a process of its own, as it ends with pages of complaints beside other libraries."""
    said = subprocess.run(
        [sys.executable, "-c", BY_DUCKDB, query], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(said.stdout)


def titlebout(*arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert not end.value.code, arguments
