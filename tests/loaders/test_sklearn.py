import pickle
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
import skops.io
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

import loaders.sklearn
from loaders import catalog, signature
from loaders.base import Batch, Form
from loaders.code_policy import CodePermit, CodePolicy
from loaders.errors import BadInput, CodeNotAllowed, InvalidArtifact
from loaders.mlmodel import MLmodel, read_mlmodel
from loaders.payload import Nested, Table
from loaders.skops_types import trusted_types

TREE = ["sklearn.tree._tree.Tree", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]


class RunsOnLoad:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def predict(path, data, **load):
    model = catalog.load(path, load.pop("policy", CodePolicy.DENY), verified=load.pop("verified", False))
    enforced = signature.Signature.from_mlmodel(read_mlmodel(path))
    batch, params = signature.enforce(enforced, data)
    return model.predict(batch, params)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(LogisticRegression(max_iter=500), id="logistic"),
        pytest.param(RandomForestClassifier(5, random_state=0), id="forest"),
        pytest.param(GradientBoostingClassifier(n_estimators=3, random_state=0), id="boosting"),
        pytest.param(HistGradientBoostingClassifier(max_iter=3, random_state=0), id="histogram boosting"),
        pytest.param(make_pipeline(StandardScaler(), LogisticRegression()), id="pipeline"),
    ],
)
def test_a_skops_model_answers_as_the_estimator_does_though_no_code_may_run(save, iris, estimator):
    features, labels = iris
    estimator.fit(features, labels)
    path = save("sklearn", estimator, skops_trusted_types=TREE)
    answer = predict(path, Nested(features.tolist()))
    assert answer.form is Form.TENSOR
    np.testing.assert_array_equal(answer.columns[""], estimator.predict(features))


def test_columns_are_put_in_the_order_of_fitting(save, iris):
    import pandas as pd
    from mlflow.models import infer_signature

    features, labels = iris
    frame = pd.DataFrame(features, columns=["a", "b", "c", "d"])
    estimator = LogisticRegression(max_iter=500).fit(frame, labels)
    path = save("sklearn", estimator, signature=infer_signature(frame, labels))
    expected = estimator.predict(frame)
    shuffled = Table(
        ["d", "extra", "a", "c", "b"], [features[:, 3].tolist(), [None] * 150, *features.T[[0, 2, 1]].tolist()]
    )
    np.testing.assert_array_equal(predict(path, shuffled).columns[""], expected)
    np.testing.assert_array_equal(predict(path, Nested(features.tolist())).columns[""], expected)


def test_predict_proba_answers_where_the_model_says_so(save, iris):
    estimator = LogisticRegression(max_iter=500).fit(*iris)
    path = save("sklearn", estimator, pyfunc_predict_fn="predict_proba")
    answer = predict(path, Nested(iris[0][:3].tolist()))
    np.testing.assert_array_equal(answer.columns[""], estimator.predict_proba(iris[0][:3]))


def test_labels_that_are_strings_come_as_objects(save, iris):
    features, labels = iris
    estimator = LogisticRegression(max_iter=500).fit(features, np.array(["setosa", "versicolor", "virginica"])[labels])
    answer = predict(save("sklearn", estimator), Nested([[5.1, 3.5, 1.4, 0.2]]))
    assert answer.columns[""].dtype == object
    assert answer.columns[""].tolist() == ["setosa"]


def column_pipeline():
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import OneHotEncoder

    frame = pd.DataFrame({"colour": ["red", "blue", "red", "green"], "size": [1.0, 2.0, 3.0, 4.0]})
    pipeline = make_pipeline(
        ColumnTransformer(
            [("colour", OneHotEncoder(handle_unknown="ignore"), ["colour"]), ("size", StandardScaler(), ["size"])]
        ),
        LogisticRegression(),
    )
    return frame, pipeline.fit(frame, [0, 1, 0, 1])


@pytest.mark.parametrize("format_", ["skops", "cloudpickle", "pickle"])
def test_a_pipeline_that_selects_columns_by_name_gets_a_frame(save, format_):
    from mlflow.models import infer_signature

    frame, pipeline = column_pipeline()
    path = save(
        "sklearn", pipeline, serialization_format=format_, signature=infer_signature(frame),
        skops_trusted_types=["sklearn.compose._column_transformer._RemainderColsList"] if format_ == "skops" else None,
    )  # fmt: skip
    table = Table(["size", "colour"], [[1, 4], ["red", "mauve"]])
    answer = predict(path, table, policy=CodePolicy.ALLOW)
    import pandas as pd

    expected = pipeline.predict(pd.DataFrame({"colour": ["red", "mauve"], "size": [1.0, 4.0]}))
    np.testing.assert_array_equal(answer.columns[""], expected)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(Nested(["good film", "bad film"]), id="list"),
        pytest.param(Table(["text"], [["good film", "bad film"]]), id="table"),
        pytest.param(Nested([["good film"], ["bad film"]]), id="rows"),
    ],
)
def test_a_pipeline_of_texts_gets_one_text_a_row(save, data):
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(["good", "bad"], ["yes", "no"])
    path = save("sklearn", pipeline)
    assert predict(path, data).columns[""].tolist() == ["yes", "no"]
    for rows in ([1, 2], ["a", None]):
        with pytest.raises(BadInput, match="one text in each row"):
            predict(path, Nested(rows))


@pytest.mark.parametrize(
    ("policy", "verified", "runs"),
    [
        (CodePolicy.DENY, True, False),
        (CodePolicy.REGISTERED, False, False),
        (CodePolicy.REGISTERED, True, True),
        (CodePolicy.ALLOW, False, True),
    ],
)
def test_a_pickle_runs_only_where_the_policy_lets_it(save, iris, tmp_path, policy, verified, runs):
    path = save("sklearn", LogisticRegression(max_iter=500).fit(*iris), serialization_format="pickle")
    marker = tmp_path / "ran"
    (path / "model.pkl").write_bytes(pickle.dumps(RunsOnLoad(marker)))
    with pytest.raises((CodeNotAllowed, InvalidArtifact)) as refusal:
        catalog.load(path, policy, verified=verified)
    assert marker.exists() is runs
    assert isinstance(refusal.value, InvalidArtifact if runs else CodeNotAllowed)


def test_the_models_own_list_of_trusted_types_is_not_believed(save, iris):
    path = save("sklearn", LogisticRegression(max_iter=500).fit(*iris))
    (path / "model.skops").write_bytes(skops.io.dumps(RunsOnLoad(path / "never")))
    text = (path / "MLmodel").read_text()
    (path / "MLmodel").write_text(
        text.replace("skops_trusted_types: null", f"skops_trusted_types: [{__name__}.RunsOnLoad]")
    )
    with pytest.raises(CodeNotAllowed, match=r"RunsOnLoad|touch"):
        catalog.load(path, CodePolicy.ALLOW, verified=True)
    assert not (path / "never").exists()


def forged(estimator, change) -> bytes:
    """The skops file of *estimator*, each array of which *change* may alter."""
    import io

    source = zipfile.ZipFile(io.BytesIO(skops.io.dumps(estimator)))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for info in source.infolist():
            content = source.read(info)
            if info.filename.endswith(".npy"):
                array = np.load(io.BytesIO(content))
                change(array)
                buffer = io.BytesIO()
                np.save(buffer, array)
                content = buffer.getvalue()
            target.writestr(info.filename, content)
    return out.getvalue()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("left_child", 10**6, id="a child that isn't there"),
        pytest.param("right_child", 0, id="a circle"),
        pytest.param("feature", 4, id="a feature that isn't there"),
        pytest.param("feature", -5, id="a feature before the first"),
    ],
)
def test_a_forged_tree_is_refused_before_it_is_walked(save, iris, field, value):
    path = save("sklearn", RandomForestClassifier(3, random_state=0).fit(*iris), skops_trusted_types=TREE)

    def forge(array):
        if array.dtype.names and field in array.dtype.names:
            array[field][0] = value

    (path / "model.skops").write_bytes(forged(RandomForestClassifier(3, random_state=0).fit(*iris), forge))
    with pytest.raises(InvalidArtifact, match="trees"):
        catalog.load(path, CodePolicy.DENY, verified=False)


@pytest.mark.parametrize(("field", "value"), [("left", 10**6), ("right", 0), ("feature_idx", 4)])
def test_a_forged_tree_of_histogram_boosting_is_refused(save, iris, field, value):
    estimator = HistGradientBoostingClassifier(max_iter=2).fit(*iris)
    path = save("sklearn", estimator, skops_trusted_types=TREE)

    def forge(array):
        if array.dtype.names and field in array.dtype.names:
            array[field][0] = value

    (path / "model.skops").write_bytes(forged(estimator, forge))
    with pytest.raises(InvalidArtifact, match="trees"):
        catalog.load(path, CodePolicy.DENY, verified=False)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive"])
def test_a_truncated_file_is_refused_by_name(save, iris, content):
    path = save("sklearn", LogisticRegression(max_iter=500).fit(*iris))
    (path / "model.skops").write_bytes(content)
    with pytest.raises(InvalidArtifact, match=r"model\.skops"):
        catalog.load(path, CodePolicy.DENY, verified=False)


def test_a_path_out_of_the_model_is_refused(save, iris):
    path = save("sklearn", LogisticRegression(max_iter=500).fit(*iris))
    text = (path / "MLmodel").read_text()
    (path / "MLmodel").write_text(text.replace("pickled_model: model.skops", "pickled_model: ../other/model.skops"))
    with pytest.raises(InvalidArtifact, match="path within the model"):
        catalog.load(path, CodePolicy.DENY, verified=False)


def test_another_pinned_version_is_a_warning(save, iris):
    path = save("sklearn", LogisticRegression(max_iter=500).fit(*iris))
    (path / "requirements.txt").write_text("mlflow==3.17.2\nscikit-learn==1.0.2\n")
    (warning,) = catalog.load(path, CodePolicy.DENY, verified=False).warnings
    assert warning.startswith("The model was saved with scikit-learn 1.0.2; installed is ")


def test_rows_that_the_estimator_cannot_use_are_bad_input(save, iris):
    model = catalog.load(save("sklearn", LogisticRegression(max_iter=500).fit(*iris)), CodePolicy.DENY, verified=False)
    for rows in ([[1.0, 2.0]], [[np.nan] * 4], [1.0, 2.0]):
        with pytest.raises(BadInput, match="The model refuses"):
            model.predict(Batch(Form.TENSOR, {"": np.array(rows)}), {})


def test_several_outputs_of_probabilities_are_json(save, iris):
    features, labels = iris
    estimator = RandomForestClassifier(2, random_state=0).fit(features, np.column_stack([labels, labels > 0]))
    path = save("sklearn", estimator, skops_trusted_types=TREE, pyfunc_predict_fn="predict_proba")
    answer = predict(path, Nested(features[:2].tolist()))
    assert msgspec.json.decode(answer.text) == [array.tolist() for array in estimator.predict_proba(features[:2])]


@pytest.mark.parametrize(("field", "value"), [("idx_end", 10**9), ("idx_start", -1), ("is_leaf", 0)])
def test_a_forged_tree_of_neighbours_is_refused(save, iris, field, value):
    estimator = KNeighborsClassifier().fit(*iris)
    path = save("sklearn", estimator, skops_trusted_types=trusted_types())

    def forge(array):
        if array.dtype.names and field in array.dtype.names:
            array[field][-1] = value

    (path / "model.skops").write_bytes(forged(estimator, forge))
    with pytest.raises(InvalidArtifact, match="trees"):
        catalog.load(path, CodePolicy.DENY, verified=False)


UNSUPPORTED = {"Birch"}
"""Estimators that skops itself can't write."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what scikit-learn says of parameters that nobody chose
def test_every_estimator_of_scikit_learn_that_predicts_comes_back_from_skops(iris, tmp_path):
    features, labels = iris
    checked = 0
    for name, type_ in all_estimators():
        if name in UNSUPPORTED or not hasattr(type_, "predict"):
            continue
        try:
            estimator = type_().fit(np.abs(features), labels)
            expected = estimator.predict(np.abs(features))
        except (TypeError, ValueError, AttributeError):
            continue  # it wants arguments, or other data than these
        (tmp_path / "model.skops").write_bytes(skops.io.dumps(estimator))
        mlmodel = MLmodel(flavors={"sklearn": {"pickled_model": "model.skops", "serialization_format": "skops"}})
        model = loaders.sklearn.load(tmp_path, mlmodel, CodePermit(policy=CodePolicy.DENY, verified=False))
        answer = model.predict(Batch(Form.TENSOR, {"": np.abs(features)}), {})
        np.testing.assert_array_equal(answer.columns[""], expected, err_msg=name)
        checked += 1
    assert checked > 60
