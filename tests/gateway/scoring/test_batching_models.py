"""What real models answer to rows that travelled together is what they answer to each alone."""

import asyncio

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

from loaders.base import Batch, DoubleRow, Form
from loaders.errors import BadInput
from loaders.sklearn import SklearnModel
from tests.gateway.scoring.test_batching import ask, batching

FEATURES, LABELS = load_iris(return_X_y=True)
NAMES = ("a", "b", "c", "d")
ROWS = np.random.default_rng(0).normal(FEATURES.mean(0), FEATURES.std(0), (60, 4)).round(2)
# BLAS takes other ways through a matrix for each of these numbers of rows, alone and all together.
ODD_SIZES = (1, 3, 7, 2, 5, 1, 13, 31, 1, 64, 17)


class Counting:
    """A model that counts the rows of its calls."""

    def __init__(self, model):
        self._model = model
        self.calls = []

    def predict(self, batch, params):
        self.calls.append(batch.rows)
        return self._model.predict(batch, params)


def values(answer):
    return np.concatenate([np.asarray(column) for column in answer.columns.values()])


def together_and_alone(model, batches, tmp_path):
    """What each of *batches* is answered in company, and by itself."""

    async def scenario():
        counting = Counting(model)
        async with batching(counting, tmp_path) as batcher:
            together = await asyncio.gather(*(ask(batcher, one) for one in batches), return_exceptions=True)
            # One message, then one for each if somebody in it was to blame.
            assert counting.calls[0] == sum(one.rows for one in batches)
            alone = [(await asyncio.gather(ask(batcher, one), return_exceptions=True))[0] for one in batches]
        return together, alone

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("estimator", "predict_fn"),
    [
        pytest.param(LogisticRegression(max_iter=500), "predict", id="labels"),
        pytest.param(LogisticRegression(max_iter=500), "predict_proba", id="probabilities"),
        pytest.param(LinearRegression(), "predict", id="a regression"),
        pytest.param(RandomForestClassifier(10, random_state=0), "predict_proba", id="a forest"),
    ],
)
def test_in_float64_within_1e_12_and_labels_equal(estimator, predict_fn, tmp_path):
    model = SklearnModel(estimator.fit(FEATURES, LABELS), predict_fn, ())
    together, alone = together_and_alone(model, [DoubleRow(NAMES, row.tolist()) for row in ROWS], tmp_path)
    for ours, own in zip(map(values, together), map(values, alone), strict=True):
        assert ours.dtype == own.dtype
        if predict_fn == "predict" and isinstance(estimator, LogisticRegression):
            assert ours.tolist() == own.tolist()
        np.testing.assert_allclose(ours, own, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", [LinearRegression(), Ridge(), LogisticRegression(max_iter=50)], ids=type)
def test_wide_rows_of_odd_numbers_in_float64_within_1e_12(estimator, tmp_path):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(200, 64))
    names = tuple(map(str, range(64)))
    labels = (features @ rng.normal(size=64)).round() % 3
    predict_fn = "predict_proba" if isinstance(estimator, LogisticRegression) else "predict"
    model = SklearnModel(estimator.fit(features, labels), predict_fn, ())
    batches = [Batch(Form.TABLE, dict(zip(names, rng.normal(size=(rows, 64)).T, strict=True))) for rows in ODD_SIZES]
    together, alone = together_and_alone(model, batches, tmp_path)
    for ours, own in zip(map(values, together), map(values, alone), strict=True):
        assert ours.dtype == own.dtype == np.float64
        np.testing.assert_allclose(ours, own, rtol=1e-12, atol=1e-12)


def test_a_bad_row_gets_the_models_own_words_and_its_neighbours_what_they_would_get_alone(tmp_path):
    model = SklearnModel(LogisticRegression(max_iter=500).fit(FEATURES, LABELS), "predict_proba", ())
    batches = [DoubleRow(NAMES, row.tolist()) for row in ROWS[:10]]
    batches[4] = DoubleRow(NAMES, [1.0, None, 1.0, 1.0])
    together, alone = together_and_alone(model, batches, tmp_path)
    for place, (ours, own) in enumerate(zip(together, alone, strict=True)):
        if place == 4:
            assert isinstance(ours, BadInput)
            assert ours.message == own.message
            assert "NaN" in ours.message
        else:
            np.testing.assert_allclose(values(ours), values(own), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "layers", "sizes"),
    [pytest.param(64, 1, (1,) * 60, id="row by row"), pytest.param(256, 4, ODD_SIZES, id="a wide one, odd numbers")],
)
def test_in_float32_within_1e_6(width, layers, sizes, tmp_path):
    torch = pytest.importorskip("torch")
    from loaders.pytorch import PytorchModel

    torch.manual_seed(0)
    hidden = [part for _ in range(layers - 1) for part in (torch.nn.Linear(width, width), torch.nn.Tanh())]
    module = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Tanh(), *hidden, torch.nn.Linear(width, 3)).eval()
    model = PytorchModel(module, "torch", torch.device("cpu"), has_signature=True, notes=())
    rng = np.random.default_rng(0)
    batches = [Batch(Form.TENSOR, {"": rng.normal(3, 2, (rows, 4)).astype(np.float32)}) for rows in sizes]
    together, alone = together_and_alone(model, batches, tmp_path)
    for ours, own in zip(map(values, together), map(values, alone), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, own, rtol=1e-6, atol=1e-6)
