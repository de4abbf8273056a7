"""Whatever JSON comes: an answer in arrays of the right kind, or a refusal in words; nothing else."""

import json
from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.base import Batch
from loaders.columns import ColumnType
from loaders.errors import BadInput
from loaders.mlmodel import MLmodel
from loaders.payload import DATA_KEYS, read_csv, read_document
from loaders.signature import Signature, enforce

TELLING = st.sampled_from(["1.5", "aGk=", "2024-01-01"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | TELLING
NAMES = st.sampled_from(["a", "b", "c", ""])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=12
)
ROWS = st.lists(st.lists(SCALARS, min_size=2, max_size=2), max_size=4)
DOCUMENTS = (
    VALUES
    | st.dictionaries(st.sampled_from([*DATA_KEYS, "params"]), VALUES, min_size=1, max_size=2)
    | st.builds(lambda rows: {"inputs": rows}, ROWS)
    | st.builds(lambda rows: {"dataframe_split": {"columns": ["a", "b"], "data": rows}}, ROWS)
    | st.builds(lambda key, rows: {key: rows}, st.sampled_from(DATA_KEYS), st.lists(st.dictionaries(NAMES, SCALARS)))
)
TYPES = st.sampled_from([*(type_ for type_ in ColumnType if type_ is not ColumnType.JSON), "array", "any"])
DTYPES = st.sampled_from(["float32", "float64", "int8", "uint64", "int64", "bool", "str", "object", "datetime64[ns]"])


def column_specs(types, *, named):
    return [{"type": type_, **({"name": "abc"[place]} if named else {})} for place, type_ in enumerate(types)]


def tensor_specs(specs, *, named):
    return [
        {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}, **({"name": "abc"[place]} if named else {})}
        for place, (dtype, shape) in enumerate(specs)
    ]


SHAPES = st.lists(st.sampled_from([-1, 1, 2]), min_size=1, max_size=3)
INPUTS = (
    st.builds(lambda types: column_specs(types, named=True), st.lists(TYPES, min_size=1, max_size=3))
    | st.builds(lambda types: column_specs(types, named=False), st.lists(TYPES, min_size=1, max_size=3))
    | st.builds(
        lambda specs: tensor_specs(specs, named=True), st.lists(st.tuples(DTYPES, SHAPES), min_size=1, max_size=2)
    )
    | st.builds(lambda spec: tensor_specs([spec], named=False), st.tuples(DTYPES, SHAPES))
    | st.none()
)


def signature(inputs):
    if inputs is None:
        return None
    return Signature.from_mlmodel(MLmodel(flavors={"sklearn": {}}, signature={"inputs": json.dumps(inputs)}))


@settings(max_examples=400, deadline=None)
@given(INPUTS, DOCUMENTS)
def test_any_json_is_a_batch_or_bad_input(inputs, document):
    check(lambda: enforce(signature(inputs), *read_document(document))[0])


@settings(max_examples=200, deadline=None)
@given(INPUTS, st.text(alphabet='ab1.,"\n\r\0 '), st.booleans())
def test_any_csv_is_a_batch_or_bad_input(inputs, text, header):
    check(lambda: enforce(signature(inputs), read_csv(text, header=header))[0])


def check(make_batch: Callable[[], Batch]) -> None:
    try:
        batch = make_batch()
    except BadInput:
        return
    for column in batch.columns.values():
        assert isinstance(column, np.ndarray)
        assert column.ndim >= 1
        assert column.dtype.kind in "fiubMO"
    assert len({len(column) for column in batch.columns.values()}) <= 1
