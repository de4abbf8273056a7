"""Faster predictors: the estimator's own answers, or none of theirs."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from loaders import catalog
from loaders.acceleration import engines, preparing
from loaders.acceleration.choice import ESTIMATOR, choose
from loaders.acceleration.engines import EngineName
from loaders.acceleration.predictor import FastPredictor
from loaders.acceleration.proof import Disproved, prove
from loaders.acceleration.rows import draw
from loaders.acceleration.wish import AccelerationWish
from loaders.base import Batch, Form
from loaders.catalog import CodePolicy
from loaders.errors import BadInput

WISH = AccelerationWish(timeout_s=120)
NAMES = np.array(["setosa", "versicolor", "virginica"])


@pytest.fixture(scope="session")
def binary():
    return make_classification(400, 6, n_informative=4, random_state=1)


@pytest.fixture(scope="session")
def regression():
    return make_regression(300, 5, noise=3.0, random_state=2)


CLASSIFIERS = [
    pytest.param(LogisticRegression(max_iter=500), id="logistic"),
    pytest.param(make_pipeline(StandardScaler(), LogisticRegression()), id="scaled logistic"),
    pytest.param(DecisionTreeClassifier(max_depth=4, random_state=0), id="tree"),
    pytest.param(RandomForestClassifier(15, random_state=0), id="forest of pure leaves"),
    pytest.param(RandomForestClassifier(15, max_depth=3, random_state=0), id="forest of mixed leaves"),
    pytest.param(make_pipeline(MinMaxScaler(), ExtraTreesClassifier(8, random_state=0)), id="scaled extra trees"),
    pytest.param(GradientBoostingClassifier(n_estimators=6, random_state=0), id="boosting"),
    pytest.param(HistGradientBoostingClassifier(max_iter=6, random_state=0), id="histogram boosting"),
]
REGRESSORS = [
    pytest.param(LinearRegression(), id="linear"),
    pytest.param(make_pipeline(RobustScaler(), Ridge()), id="scaled ridge"),
    pytest.param(DecisionTreeRegressor(random_state=0), id="tree"),
    pytest.param(make_pipeline(StandardScaler(), RandomForestRegressor(12, random_state=0)), id="scaled forest"),
    pytest.param(GradientBoostingRegressor(n_estimators=8, random_state=0), id="boosting"),
    pytest.param(HistGradientBoostingRegressor(max_iter=8, random_state=0), id="histogram boosting"),
]


def trying(estimator, seed=77):
    """Other rows than the proof's own."""
    return np.concatenate(list(draw(estimator, None, 3000, seed)))


def onnx_predictor(estimator, predict_fn):
    """What a host would use, proven on fewer rows and without a process of its own for it."""
    engine = engines.start(
        EngineName.ONNXRUNTIME, engines.convert(EngineName.ONNXRUNTIME, estimator, estimator.n_features_in_)
    )
    return FastPredictor(estimator, predict_fn, engine, prove(estimator, predict_fn, engine, None, rows=500))


def assert_close(got, expected):
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("several", [True, False], ids=["three classes", "two classes"])
@pytest.mark.parametrize("estimator", CLASSIFIERS)
def test_a_classifier_gives_the_same_labels_and_probabilities(iris, binary, estimator, several):
    features, labels = iris if several else binary
    estimator.fit(features, NAMES[labels])
    rows = trying(estimator)
    for predict_fn in ("predict", "predict_proba"):
        predict = onnx_predictor(estimator, predict_fn)
        expected = getattr(estimator, predict_fn)(rows)
        got = predict(rows)
        alone = np.concatenate([predict(rows[row : row + 1]) for row in range(50)])
        if predict_fn == "predict":
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)
            np.testing.assert_array_equal(alone, expected[:50])
        else:
            assert_close(got, expected)
            assert_close(alone, expected[:50])
            # A row is answered in company as it is alone.
            np.testing.assert_allclose(alone, got[:50], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", REGRESSORS)
def test_a_regressor_gives_the_same_values(regression, estimator):
    features, values = regression
    estimator.fit(features, values)
    rows = trying(estimator)
    predict = onnx_predictor(estimator, "predict")
    got = predict(rows)
    assert_close(got, estimator.predict(rows))
    alone = np.concatenate([predict(rows[row : row + 1]) for row in range(50)])
    np.testing.assert_allclose(alone, got[:50], rtol=1e-12, atol=1e-12 * np.abs(got).max())


def test_several_values_a_row_keep_their_shape(regression):
    features, values = regression
    estimator = LinearRegression().fit(features, np.column_stack([values, -values]))
    assert_close(onnx_predictor(estimator, "predict")(features), estimator.predict(features))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    trees=st.integers(1, 12),
    depth=st.none() | st.integers(1, 6),
    leaf=st.integers(1, 5),
    classes=st.integers(2, 5),
    seed=st.integers(0, 2**31),
)
def test_any_forest_is_equal_to_the_last_bit(trees, depth, leaf, classes, seed):
    random = np.random.default_rng(seed)
    # Few values, so that rows often lie on a threshold, and thresholds that floats don't have.
    features = np.round(random.normal(size=(80, 4)), 1) + 1e-9
    labels = random.integers(classes, size=80)
    estimator = RandomForestClassifier(trees, max_depth=depth, min_samples_leaf=leaf, random_state=seed)
    estimator.fit(features, labels)
    if len(estimator.classes_) < 2:
        return
    engine = engines.start(EngineName.ONNXRUNTIME, engines.convert(EngineName.ONNXRUNTIME, estimator, 4))
    assert prove(estimator, "predict", engine, features, rows=500).exact
    np.testing.assert_array_equal(engine(features), estimator.predict_proba(features))


def test_rows_on_a_threshold_fall_on_the_side_that_rounding_to_floats_puts_them(iris):
    estimator = RandomForestClassifier(30, random_state=0).fit(*iris)
    predict = onnx_predictor(estimator, "predict_proba")
    rows = []
    for member in estimator.estimators_:
        for feature, threshold in zip(member.tree_.feature, member.tree_.threshold, strict=True):
            if feature >= 0:
                for value in (threshold, np.nextafter(threshold, 9e9), np.nextafter(threshold, -9e9)):
                    rows.append(iris[0][len(rows) % 150].copy())
                    rows[-1][feature] = value
    matrix = np.array(rows)
    np.testing.assert_array_equal(predict(matrix), estimator.predict_proba(matrix))
    # That the rows are telling: with doubles as they are, some fall on the other side.
    engine = engines.start(EngineName.TREELITE, b"D" + engines.convert(EngineName.TREELITE, estimator, 4)[1:])
    assert not np.array_equal(engine(matrix), estimator.predict_proba(matrix))


def test_a_tie_between_labels_goes_to_the_estimators(binary):
    features, labels = binary
    estimator = LogisticRegression().fit(features, labels)
    estimator.intercept_ = np.zeros(1)
    predict = onnx_predictor(estimator, "predict")
    along = np.linalg.svd(estimator.coef_)[2][1:]  # directions in which the score stays zero, but for rounding
    rows = np.random.default_rng(0).normal(size=(500, len(along))) @ along
    np.testing.assert_array_equal(predict(rows), estimator.predict(rows))


@pytest.mark.parametrize("estimator", [CLASSIFIERS[1], CLASSIFIERS[4]])
def test_other_dtypes_get_the_estimators_answer_too(iris, estimator):
    features, labels = iris
    estimator.fit(features, labels)
    predict = onnx_predictor(estimator, "predict_proba")
    for kind in ("f4", "f8", "i2", "i4", "i8", "u1", "?"):
        rows = np.abs(trying(estimator)).astype(kind)
        assert_close(predict(rows), estimator.predict_proba(rows))


def test_missing_values_go_the_way_that_the_estimator_learnt(binary):
    features, labels = binary
    holes = np.where(np.random.default_rng(0).random(features.shape) < 0.2, np.nan, features)
    for estimator in (
        HistGradientBoostingClassifier(max_iter=5),
        DecisionTreeClassifier(max_depth=4),
        RandomForestClassifier(5),
    ):
        estimator.fit(holes, labels)
        rows = np.where(np.random.default_rng(1).random(features.shape) < 0.3, np.nan, features)
        assert_close(onnx_predictor(estimator, "predict_proba")(rows), estimator.predict_proba(rows))


@pytest.mark.parametrize("estimator", [CLASSIFIERS[0], CLASSIFIERS[3], CLASSIFIERS[5]])
@pytest.mark.filterwarnings("ignore:overflow")  # scikit-learn's own, before it refuses the last value
def test_what_the_estimator_refuses_is_refused_in_the_same_words(save, iris, estimator):
    path = save("sklearn", estimator.fit(*iris), serialization_format="cloudpickle")
    fast, plain = (catalog.load(path, CodePolicy.ALLOW, verified=False, acceleration=wish) for wish in (WISH, None))
    assert (fast.predictor, plain.predictor) == ("onnxruntime", "sklearn")
    for value in (np.nan, np.inf, 1e300):
        rows = Batch(Form.TENSOR, {"": np.array([[5.1, value, 1.4, 0.2]])})
        said = []
        for model in (fast, plain):
            try:
                said.append(model.predict(rows, {}).columns[""].tolist())
            except BadInput as error:
                said.append(error.message)
        assert said[0] == said[1]


def test_rows_of_another_width_or_none_are_bad_input(save, iris):
    path = save("sklearn", LogisticRegression(max_iter=500).fit(*iris))
    model = catalog.load(path, CodePolicy.DENY, verified=False, acceleration=WISH)
    assert model.predictor == "onnxruntime"
    for rows in ([[1.0, 2.0]], [1.0, 2.0], np.empty((0, 4))):
        with pytest.raises(BadInput, match="The model refuses"):
            model.predict(Batch(Form.TENSOR, {"": np.array(rows)}), {})


def test_named_columns_of_doubles_need_no_frame(save, iris):
    import pandas as pd
    from mlflow.models import infer_signature

    features, labels = iris
    frame = pd.DataFrame(features, columns=["a", "b", "c", "d"])
    estimator = RandomForestClassifier(5, random_state=0).fit(frame, NAMES[labels])
    expected = estimator.predict(frame).tolist()
    path = save(
        "sklearn", estimator, signature=infer_signature(frame, labels), input_example=frame[:3],
        serialization_format="cloudpickle",
    )  # fmt: skip
    model = catalog.load(path, CodePolicy.ALLOW, verified=False, acceleration=WISH)
    assert (model.predictor, model.predictor_reason) == ("onnxruntime", "")
    answer = model.predict(Batch(Form.TABLE, {name: frame[name].to_numpy() for name in "dbca"}), {})
    assert answer.columns[""].dtype == object
    assert answer.columns[""].tolist() == expected


def test_several_threads_answer_alike_though_not_to_the_last_bit(iris, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    assert engines.threads() == 3
    estimator = RandomForestClassifier(120, max_depth=3, random_state=0).fit(*iris)
    rows = trying(estimator)
    for predict_fn in ("predict", "predict_proba"):
        predict, slow = onnx_predictor(estimator, predict_fn), getattr(estimator, predict_fn)
        for part in (rows, rows[:1]):
            np.testing.assert_allclose(predict(part), slow(part), rtol=1e-12)


def test_scales_of_almost_nothing_leave_the_estimator_to_refuse(iris):
    estimator = make_pipeline(StandardScaler(), RandomForestClassifier(3)).fit(*iris)
    estimator[0].scale_ = np.full(4, 1e-10)
    choice = choose(estimator, "predict", None, WISH)
    assert (choice.predictor, choice.reason) == (ESTIMATOR, "its scalers have a scale of almost nothing")


def test_a_converter_that_deviates_is_found_out(binary):
    features, labels = binary
    # Treelite takes its sums for those of another loss; our graphs have no form for it.
    estimator = GradientBoostingClassifier(loss="exponential", n_estimators=5, random_state=0).fit(features, labels)
    engine = engines.start(EngineName.TREELITE, engines.convert(EngineName.TREELITE, estimator, 6))
    with pytest.raises(Disproved):
        prove(estimator, "predict_proba", engine, None)
    choice = choose(estimator, "predict_proba", None, WISH)
    assert choice.predictor == ESTIMATOR
    assert "treelite" in choice.reason
    assert choice.predict == estimator.predict_proba


def test_trees_without_the_cast_to_floats_are_found_out(iris):
    estimator = RandomForestClassifier(30, random_state=0).fit(*iris)
    careless = engines.start(EngineName.TREELITE, b"D" + engines.convert(EngineName.TREELITE, estimator, 4)[1:])
    careful = engines.start(EngineName.TREELITE, engines.convert(EngineName.TREELITE, estimator, 4))
    assert prove(estimator, "predict_proba", careful, None).exact
    with pytest.raises(Disproved):
        prove(estimator, "predict_proba", careless, None)


def test_the_proof_asks_for_the_saved_example_and_for_ten_thousand_rows_around_the_thresholds(iris):
    estimator = RandomForestClassifier(10, random_state=0).fit(*iris)
    example = iris[0][:3] + 1_000.0  # Where nothing that is drawn by itself would be.
    asked = []

    def faithful(rows):
        asked.append(rows)
        return estimator.predict_proba(rows)

    def faithless(rows):
        shift = np.where((rows == example[1]).all(axis=1), 1e-3, 0.0)
        return estimator.predict_proba(rows) + shift[:, None]

    assert prove(estimator, "predict_proba", faithful, example).exact
    rows = np.concatenate([each for each in asked if len(each) > 1])
    assert np.array_equal(asked[0], example)
    assert len(rows) >= 10_000
    for feature in range(4):
        thresholds = np.concatenate([m.tree_.threshold[m.tree_.feature == feature] for m in estimator.estimators_])
        ties = np.isin(rows[:, feature], thresholds)
        beside = np.isin(rows[:, feature], np.concatenate([np.nextafter(thresholds, to) for to in (9e9, -9e9)]))
        assert ties.sum() > 100
        assert beside.sum() > 100
    with pytest.raises(Disproved):
        prove(estimator, "predict_proba", faithless, example)
    assert prove(estimator, "predict_proba", faithless, None).exact


class OwnTree(DecisionTreeClassifier):
    pass


@pytest.mark.parametrize(
    ("estimator", "predict_fn", "why"),
    [
        (OwnTree(), "predict", "OwnTree has no faster equivalent"),
        (KNeighborsClassifier(), "predict", "KNeighborsClassifier has no faster equivalent"),
        (LogisticRegression(max_iter=500), "predict_log_proba", "predict_log_proba has no faster"),
        (HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]), "predict", "categories"),
        (make_pipeline(StandardScaler(), KNeighborsClassifier()), "predict", "KNeighborsClassifier"),
    ],
)
def test_what_has_no_equivalent_stays_with_the_estimator_and_says_why(iris, estimator, predict_fn, why):
    features, labels = iris
    estimator.fit(np.floor(features), labels)
    choice = choose(estimator, predict_fn, None, WISH)
    assert choice.predictor == ESTIMATOR
    assert why in choice.reason


def test_a_model_of_several_outputs_stays_with_the_estimator(iris):
    features, labels = iris
    estimator = RandomForestClassifier(3).fit(features, np.column_stack([labels, labels > 0]))
    assert choose(estimator, "predict", None, WISH).reason == "it has several outputs or a single class"


def test_a_proof_that_takes_too_long_leaves_the_estimator_to_serve(iris, tmp_path):
    estimator = RandomForestClassifier(100, random_state=0).fit(*iris)
    started = time.monotonic()
    choice = choose(estimator, "predict", None, AccelerationWish(folder=tmp_path, timeout_s=0.01))
    assert time.monotonic() - started < 10
    assert (choice.predictor, choice.reason) == (ESTIMATOR, "it took more than 0.01 s to convert and prove")
    # The next load isn't bound by this one's bad luck.
    assert choose(estimator, "predict", None, AccelerationWish(folder=tmp_path, timeout_s=120)).predictor != ESTIMATOR


def test_a_converter_that_ends_its_process_costs_nothing_but_the_speed(iris, tmp_path):
    estimator = LogisticRegression(max_iter=500).fit(*iris)
    assert preparing._in_child(lambda: os.kill(os.getpid(), 11), 60) == "converting ended its process (SIGSEGV)"
    assert preparing._in_child(lambda: estimator.predict(iris[0]), 60) is None


def test_a_converted_model_is_kept_for_the_next_load_and_not_believed_when_it_changes(iris, tmp_path):
    estimator = RandomForestClassifier(5, random_state=0).fit(*iris)
    wish = AccelerationWish(folder=tmp_path, timeout_s=120)
    assert choose(estimator, "predict", None, wish).predictor == "onnxruntime"
    kept = tmp_path / "onnxruntime"
    written_ns = kept.stat().st_mtime_ns
    assert choose(estimator, "predict", None, wish).predictor == "onnxruntime"
    assert kept.stat().st_mtime_ns == written_ns
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    assert (
        choose(estimator, "predict", None, wish).reason == "onnxruntime: the converted model that was kept has changed"
    )
    assert choose(estimator, "predict", None, wish).predictor == "onnxruntime"


def test_what_was_kept_of_another_model_is_found_out(iris, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    mild, wild = (RandomForestClassifier(5, random_state=seed).fit(*iris) for seed in (0, 1))
    choose(mild, "predict_proba", None, AccelerationWish(folder=first, timeout_s=120))
    for path in first.iterdir():
        shutil.copy(path, second)
    assert choose(wild, "predict_proba", None, AccelerationWish(folder=second)).predictor == ESTIMATOR


def test_without_the_libraries_the_estimator_serves_and_says_what_to_install(iris, monkeypatch):
    estimator = LogisticRegression(max_iter=500).fit(*iris)
    found = engines.importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in {"onnxruntime", "treelite"} else found(name)
    )
    choice = choose(estimator, "predict", None, WISH)
    assert choice.predictor == ESTIMATOR
    assert "onnxruntime isn't installed (titlebout[fast])" in choice.reason


def test_treelite_takes_over_where_onnx_runtime_is_missing(iris, monkeypatch):
    estimator = RandomForestClassifier(20, random_state=0).fit(*iris)
    found = engines.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else found(name))
    choice = choose(estimator, "predict", None, WISH)
    assert choice.predictor == "treelite"
    assert isinstance(choice.predict, FastPredictor)
    rows = trying(estimator)
    np.testing.assert_array_equal(choice.predict(rows), estimator.predict(rows))


def test_a_switched_off_acceleration_is_said(save, iris):
    model = catalog.load(save("sklearn", LogisticRegression(max_iter=500).fit(*iris)), CodePolicy.DENY, verified=False)
    assert (model.predictor, model.predictor_reason) == ("sklearn", "acceleration is switched off")


def test_nothing_but_the_host_imports_what_engines_run_on():
    script = (
        "import sys, loaders.catalog, loaders.acceleration.wish\n"
        "print(*sorted({'onnxruntime', 'onnx', 'treelite', 'sklearn', 'skl2onnx'} & sys.modules.keys()))\n"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, check=True, text=True)
    assert result.stdout == "\n"
