"""Settings: options win over our variables, ours over MLflow's, and what can't be used is named."""

import pytest

from gateway.settings import Settings, load_settings
from tracking.errors import InvalidParameter


@pytest.mark.parametrize(
    ("options", "environment", "field", "value"),
    [
        pytest.param({}, {}, "port", 8080, id="default"),
        pytest.param({}, {"TITLEBOUT_PORT": "9000"}, "port", 9000, id="our variable"),
        pytest.param({"port": 9001}, {"TITLEBOUT_PORT": "9000"}, "port", 9001, id="an option wins"),
        pytest.param({"port": None}, {"TITLEBOUT_PORT": "9000"}, "port", 9000, id="an option not given doesn't"),
        pytest.param({}, {"MLFLOW_PORT": "5000"}, "port", 5000, id="MLflow's variable"),
        pytest.param({}, {"MLFLOW_PORT": "5000", "TITLEBOUT_PORT": "9000"}, "port", 9000, id="ours before MLflow's"),
        pytest.param(
            {}, {"MLFLOW_BACKEND_STORE_URI": "postgresql://a/b"}, "database_url", "postgresql://a/b", id="store URI"
        ),
        pytest.param({}, {"MLFLOW_DEFAULT_ARTIFACT_ROOT": "s3://b/c"}, "artifact_root", "s3://b/c", id="artifact root"),
        pytest.param({}, {"MODEL_NAME": "iris"}, "model", "models:/iris@champion", id="the guide's model"),
        pytest.param(
            {}, {"MODEL_NAME": "iris", "MODEL_ALIAS": "staging"}, "model", "models:/iris@staging", id="and its alias"
        ),
        pytest.param({}, {"TITLEBOUT_MIGRATE": "true"}, "migrate", True, id="a flag"),
        pytest.param({}, {"TITLEBOUT_HOST": ""}, "host", "127.0.0.1", id="an empty variable is not set"),
    ],
)
def test_where_a_setting_comes_from(options, environment, field, value):
    assert getattr(load_settings(options, environment), field) == value


@pytest.mark.parametrize(
    ("options", "environment", "named"),
    [
        pytest.param({}, {"TITLEBOUT_PORT": "many"}, "TITLEBOUT_PORT", id="no number"),
        pytest.param({}, {"TITLEBOUT_PORT": "70000"}, "TITLEBOUT_PORT", id="out of range"),
        pytest.param({"workers": 0}, {}, "--workers", id="an option out of range"),
        pytest.param({}, {"TITLEBOUT_CODE_POLICY": "maybe"}, "TITLEBOUT_CODE_POLICY", id="none of the choices"),
        pytest.param({}, {"TITLEBOUT_LOG_LEVEL": "loud"}, "TITLEBOUT_LOG_LEVEL", id="no level"),
        pytest.param({}, {"TITLEBOUT_POLL_INTERVAL_S": "inf"}, "TITLEBOUT_POLL_INTERVAL_S", id="no end"),
        pytest.param({"data": ""}, {}, "--data", id="no folder"),
    ],
)
def test_what_cannot_be_used_is_named(options, environment, named):
    with pytest.raises(InvalidParameter, match=named):
        load_settings(options, environment)


def test_what_may_hold_a_credential_is_named_and_not_repeated():
    with pytest.raises(InvalidParameter, match="--database-url can't be used") as refused:
        load_settings({"database_url": ["postgresql://me:planted@db/t"]}, {})
    assert "planted" not in refused.value.message


def test_every_place_is_below_the_data_folder_unless_said_otherwise(tmp_path):
    settings = Settings(data=str(tmp_path))
    assert settings.database == f"sqlite:///{tmp_path}/titlebout.db"
    assert settings.artifacts == f"{tmp_path}/artifacts"
    assert settings.cache_dir == tmp_path / "cache"
