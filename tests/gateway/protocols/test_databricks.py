"""Databricks' model serving as its SDK speaks it."""

import logging

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk import errors as databricks_errors
from databricks.sdk.service.serving import DataframeSplitInput

pytestmark = pytest.mark.e2e


@pytest.fixture
def endpoints(served):
    return WorkspaceClient(host=served.url, token="any").serving_endpoints


def test_a_query_reads_predictions_and_who_gave_them(served, endpoints):
    columns = {name: [row[place] for row in served.ROWS] for place, name in enumerate(served.COLUMNS)}
    for inputs in [
        {"dataframe_records": served.RECORDS},
        {"dataframe_split": DataframeSplitInput(columns=served.COLUMNS, data=served.ROWS)},
        {"instances": served.ROWS},
        {"inputs": columns},
    ]:
        answer = endpoints.query("petal", client_request_id="order-17", **inputs)
        assert answer.predictions == served.mlflow(served.ROWS)
        assert answer.served_model_name == "petal-1"
    assert endpoints.query("petal", instances=served.ROWS[:1]).predictions == served.expected[0]
    assert endpoints.query("iris@challenger", instances=served.ROWS[:1]).served_model_name == "iris-2"


def test_errors_are_of_the_classes_that_the_sdk_knows(served, endpoints):
    with pytest.raises(databricks_errors.ResourceDoesNotExist, match="nothing"):
        endpoints.query("nothing", instances=served.ROWS)
    with pytest.raises(databricks_errors.InvalidParameterValue, match="expected a number"):
        endpoints.query("petal", instances=[["a", 1, 2, 3]])
    with pytest.raises(databricks_errors.BadRequest, match="exactly one"):
        endpoints.query("petal", prompt="hello")


def test_a_client_is_made_without_a_warning(served, caplog):
    with caplog.at_level(logging.WARNING, "databricks.sdk"):
        WorkspaceClient(host=served.url, token="any")
    assert not caplog.records
