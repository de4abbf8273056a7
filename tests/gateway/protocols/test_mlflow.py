"""MLflow's scoring protocol as its deployment client speaks it, and as its server documents it."""

import pytest
import requests
from mlflow.deployments import get_deploy_client

pytestmark = pytest.mark.e2e


def test_the_deployment_client_predicts(served):
    client = get_deploy_client(served.url)
    split = {"dataframe_split": {"columns": served.COLUMNS, "data": served.ROWS[:1]}}
    for inputs in [split, {"inputs": served.ROWS[:1]}, {"dataframe_records": served.RECORDS[:1]}]:
        assert client.predict(endpoint="petal", inputs=inputs) == {"predictions": served.expected[0]}
    assert client.predict(endpoint="iris@challenger", inputs=split) == {"predictions": [1]}
    with pytest.raises(requests.HTTPError, match="no endpoint 'nothing'"):
        client.predict(endpoint="nothing", inputs=split)
    with pytest.raises(requests.HTTPError, match="missing inputs"):
        client.predict(endpoint="petal", inputs={"dataframe_records": [{"other": 1}]})


def test_the_deployment_client_for_databricks_predicts(served, monkeypatch):
    monkeypatch.setenv("DATABRICKS_HOST", served.url)
    monkeypatch.setenv("DATABRICKS_TOKEN", "any")
    client = get_deploy_client("databricks")
    assert client.predict(endpoint="petal", inputs={"inputs": served.ROWS[:1]}) == {"predictions": served.expected[0]}
