"""Crafted pickles and archives run nothing where no code may run, and say why they are refused."""

import contextlib
import warnings

import pytest

from loaders import catalog
from loaders.code_policy import CodePolicy
from loaders.errors import CodeNotAllowed, InvalidArtifact
from tests.loaders import crafted

# It imports MLflow, keeping to itself what that warns of.
pytest.importorskip("loaders.pyfunc")

MODELS = [
    pytest.param(model, id=model.name, marks=[pytest.mark.slow] if model.flavor == "transformers" else [])
    for model in crafted.ALL
]


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Builds a crafted model; gives its folder and the marker that its payload makes."""
    monkeypatch.chdir(tmp_path)

    def build(model):
        marker = tmp_path / "marker"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.build(tmp_path / "model", marker)
        assert not marker.exists()
        return tmp_path / "model", marker

    return build


@pytest.mark.parametrize("model", MODELS)
def test_a_crafted_model_is_refused_and_runs_nothing(built, model):
    folder, marker = built(model)
    with pytest.raises((CodeNotAllowed, InvalidArtifact)) as refusal:
        catalog.load(folder, CodePolicy.DENY, verified=True, device="cpu")
    assert not marker.exists()
    said = refusal.value.message
    assert said.startswith(("The model's file ", "A model of flavor ", "A transformers model "))
    assert str(folder) not in said
    if model.live:
        assert "TITLEBOUT_CODE_POLICY=deny" in said


@pytest.mark.parametrize("model", [param for param in MODELS if param.values[0].live])
def test_its_payload_is_live_where_code_may_run(built, model, monkeypatch):
    folder, marker = built(model)
    if model.flavor == "transformers":
        # Where it copies the model's modules to before it imports them.
        monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder.parent / "modules"))
    # What comes of it besides is the model's own trouble.
    with contextlib.suppress(Exception):
        catalog.load(folder, CodePolicy.ALLOW, verified=True, device="cpu").predict(None, {})
    assert marker.exists()
