"""What the client logs beside params and metrics, and how: tables, figures, datasets; nested, at once, in the back."""

import json
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import mlflow
import mlflow.data
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

pytestmark = [
    pytest.mark.e2e,
    # The client warns of its own future and of its dependencies'; what it does is tested, not what it says of itself.
    pytest.mark.filterwarnings("ignore"),
]


def test_tables_figures_images_and_texts_are_read_back(url, tmp_path):
    with mlflow.start_run() as run:
        mlflow.log_table({"question": ["two?"], "answer": ["two"]}, "answers.json")
        mlflow.log_table(pd.DataFrame({"question": ["three?"], "answer": ["three"]}), "answers.json")
        figure, axes = plt.subplots()
        axes.plot([0, 1], [1, 0])
        mlflow.log_figure(figure, "plots/line.png")
        plt.close(figure)
        mlflow.log_image(Image.new("RGB", (3, 2), "red"), "images/red.png")
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="dark", step=7)
        mlflow.log_dict({"depth": 5, "näme": ["a"]}, "config.json")
        mlflow.log_text("first\nsecond\n", "notes/today.txt")

    run_id = run.info.run_id
    table = mlflow.load_table("answers.json", run_ids=[run_id], extra_columns=["run_id"])
    assert table.to_dict("records") == [
        {"question": "two?", "answer": "two", "run_id": run_id},
        {"question": "three?", "answer": "three", "run_id": run_id},
    ]
    root = f"runs:/{run_id}"
    assert mlflow.artifacts.load_image(f"{root}/plots/line.png").size == (640, 480)
    red = mlflow.artifacts.load_image(f"{root}/images/red.png")
    assert (red.size, red.getpixel((0, 0))) == ((3, 2), (255, 0, 0))
    assert mlflow.artifacts.load_dict(f"{root}/config.json") == {"depth": 5, "näme": ["a"]}
    assert mlflow.artifacts.load_text(f"{root}/notes/today.txt") == "first\nsecond\n"
    stepped = [Path(file.path).name for file in MlflowClient().list_artifacts(run_id, "images")]
    assert any(name.startswith("dark+step+7+") for name in stepped), stepped
    tagged = json.loads(MlflowClient().get_run(run_id).data.tags["mlflow.loggedArtifacts"])
    assert tagged == [{"path": "answers.json", "type": "table"}]


def test_datasets_are_found_on_the_run_that_used_them(url):
    frame = pd.DataFrame({"length": [5.1, 4.9], "kind": ["a", "b"]})
    training = mlflow.data.from_pandas(frame, source="s3://flowers/iris.csv", name="iris", targets="kind")
    held_out = mlflow.data.from_numpy(np.eye(3), targets=np.arange(3), name="held-out")
    with mlflow.start_run() as run:
        mlflow.log_input(training, context="training", tags={"season": "spring"})
        mlflow.log_inputs([held_out], contexts=["evaluation"], tags_list=[None])

    found = {one.dataset.name: one for one in MlflowClient().get_run(run.info.run_id).inputs.dataset_inputs}
    assert found.keys() == {"iris", "held-out"}
    iris = found["iris"]
    assert {tag.key: tag.value for tag in iris.tags} == {"mlflow.data.context": "training", "season": "spring"}
    assert (iris.dataset.digest, json.loads(iris.dataset.profile)) == (training.digest, training.profile)
    assert json.loads(iris.dataset.schema)["mlflow_colspec"][0]["name"] == "length"
    assert mlflow.data.get_source(iris.dataset).uri == "s3://flowers/iris.csv"
    matching = mlflow.search_runs(["0"], "dataset.name = 'iris' AND dataset.context = 'training'")
    assert list(matching.run_id) == [run.info.run_id]


def test_nested_runs_are_found_by_their_parent_and_read_as_a_frame(url):
    mlflow.set_experiment("search-space")
    with mlflow.start_run(run_name="parent") as parent:
        for depth in (2, 4):
            with mlflow.start_run(run_name=f"depth-{depth}", nested=True):
                mlflow.log_param("depth", depth)
                mlflow.log_metric("accuracy", 1 - 1 / depth)
                with mlflow.start_run(run_name="fold", nested=True):
                    mlflow.log_metric("accuracy", 0.1)

    children = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    frame = mlflow.search_runs(
        experiment_names=["search-space"], filter_string=children, order_by=["metrics.accuracy DESC"]
    )
    assert frame["tags.mlflow.runName"].tolist() == ["depth-4", "depth-2"]
    assert frame["params.depth"].tolist() == ["4", "2"]
    assert frame["metrics.accuracy"].tolist() == [0.75, 0.5]
    assert str(frame["start_time"].dtype).startswith("datetime64")
    everything = mlflow.search_runs(experiment_names=["search-space"])
    assert (len(everything), everything["params.depth"].isna().sum()) == (5, 3)
    assert set(everything.status) == {"FINISHED"}


def test_what_is_logged_in_the_background_is_all_there_after_the_flush(url):
    mlflow.config.enable_async_logging(True)
    try:
        with mlflow.start_run() as run:
            for step in range(300):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.log_params({f"p{number}": number for number in range(20)})
            mlflow.set_tags({"kind": "background"})
            mlflow.log_metrics({"a": 1.0, "b": 2.0}, step=1).wait()
            mlflow.flush_async_logging()
    finally:
        mlflow.config.enable_async_logging(False)
    client = MlflowClient()
    found = client.get_run(run.info.run_id)
    assert found.data.params == {f"p{number}": str(number) for number in range(20)}
    assert found.data.tags["kind"] == "background"
    assert (found.data.metrics["loss"], found.data.metrics["b"]) == (1 / 300, 2.0)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 1 / (step + 1)) for step in range(300)]


def test_system_metrics_are_sampled_while_a_run_lasts(url, monkeypatch):
    # By the environment, where the client's own switches write too, and would stay.
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    client = MlflowClient()
    with mlflow.start_run() as run:
        deadline = time.monotonic() + 60
        while len(client.get_metric_history(run.info.run_id, "system/cpu_utilization_percentage")) < 3:
            assert time.monotonic() < deadline, "no samples came"
            time.sleep(0.05)
    found = client.get_run(run.info.run_id).data.metrics
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= found.keys()
    assert found["system/system_memory_usage_megabytes"] > 0
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "system/cpu_utilization_percentage")]
    assert steps == list(range(len(steps)))


_WORKER = """
import os, mlflow

rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
if rank == 0:
    mlflow.set_experiment("four-processes")
    mlflow.start_run(run_name=f"dist-train-{world_size}gpu")
    mlflow.log_param("world_size", world_size)
for step in range(5):
    loss = rank + 1 / (step + 1)
    if rank == 0:
        mlflow.log_metrics({"loss": loss}, step=step)
if rank == 0:
    mlflow.end_run()
"""


@pytest.mark.slow  # Each process imports the client anew.
def test_of_four_processes_only_rank_zero_logs(url):
    environment = {"MLFLOW_TRACKING_URI": url, "WORLD_SIZE": "4", "PATH": "/usr/bin:/bin"}
    workers = [
        subprocess.Popen([sys.executable, "-c", _WORKER], env={**environment, "RANK": str(rank)}) for rank in range(4)
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0, 0]
    (found,) = mlflow.search_runs(experiment_names=["four-processes"], output_format="list")
    assert (found.info.run_name, found.info.status) == ("dist-train-4gpu", "FINISHED")
    assert found.data.params == {"world_size": "4"}
    history = MlflowClient().get_metric_history(found.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 1 / (step + 1)) for step in range(5)]


def test_stages_warn_in_the_client_and_move_as_before(url):
    client = MlflowClient()
    client.create_registered_model("staged")
    for number in (1, 2):
        with mlflow.start_run() as run:
            mlflow.log_text("model", "model/MLmodel")
        client.create_model_version("staged", f"runs:/{run.info.run_id}/model", run.info.run_id)
        with pytest.warns(FutureWarning, match="stages"):
            client.transition_model_version_stage("staged", str(number), "Production", archive_existing_versions=True)
    with pytest.warns(FutureWarning, match="get_latest_versions"):
        (latest,) = client.get_latest_versions("staged", ["Production"])
    assert latest.version == "2"
    assert client.get_model_version("staged", "1").current_stage == "Archived"
