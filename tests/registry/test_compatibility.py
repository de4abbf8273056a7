"""Whether callers of one version can be answered by another, as a table."""

import pytest

from registry.compatibility import why_incompatible
from registry.entities import Field, Interface

X, Y = Field("x", "double"), Field("y", "long")
OPTIONAL_Y = Field("y", "long", required=False)


def takes(*inputs):
    return Interface(inputs=inputs)


def gives(*outputs):
    return Interface(outputs=outputs)


def tensor(dtype="float32", shape=(-1, 4), name=None):
    return Field(name, dtype, shape)


@pytest.mark.parametrize(
    ("new", "old", "why"),
    [
        (takes(X), takes(X), None),
        (takes(X, OPTIONAL_Y), takes(X), None),
        (takes(X), takes(X, Y), None),
        (takes(Y, X), takes(X, Y), None),
        (takes(X, Y), takes(X), "input 'y' is required and new"),
        (takes(X, Y), takes(X, OPTIONAL_Y), "input 'y' was optional"),
        (takes(Field("x", "long")), takes(X), "input 'x' takes long and took double"),
        (takes(X), takes(Field("x", "integer")), None),
        (takes(X), takes(Field("x", "float")), None),
        (takes(X), takes(Field("x", "long")), "input 'x' takes double and took long"),
        (takes(Field("x", "json")), takes(X), None),
        (takes(), takes(X), None),
        (takes(X), takes(), None),
        (takes(Field(None, "double")), takes(X), None),
        (takes(Field(None, "double"), Field(None, "long")), takes(X, Y), "its inputs go by their places"),
        (takes(X, Y), takes(Field(None, "double"), Field(None, "long")), None),
        (takes(X, Field(None, "long")), takes(X, OPTIONAL_Y), "input 2 is long and was optional long"),
        (takes(Field(None, "double")), takes(X, Y), "it has 1 input(s) and had 2"),
        (takes(tensor()), takes(tensor()), None),
        (takes(tensor("float64")), takes(tensor()), None),
        (takes(tensor("float64")), takes(tensor("int32")), None),
        (takes(tensor("float32")), takes(tensor("int32")), "input 1 is float32 [-1, 4] and was int32 [-1, 4]"),
        (takes(tensor("int32")), takes(tensor("uint16")), None),
        (takes(tensor("uint32")), takes(tensor("int8")), "input 1 is uint32 [-1, 4] and was int8 [-1, 4]"),
        (takes(tensor("int64")), takes(tensor("float32")), "input 1 is int64"),
        (takes(tensor(shape=(-1, -1))), takes(tensor()), None),
        (takes(tensor()), takes(tensor(shape=(-1, -1))), "input 1 is float32 [-1, 4] and was float32 [-1, -1]"),
        (takes(tensor(shape=(4,))), takes(tensor()), "input 1 is"),
        (takes(tensor()), takes(Field(None, "double")), "input 1 is"),
        (gives(X, Y), gives(X), None),
        (gives(X), gives(X, Y), "output 'y' is gone"),
        (gives(Field("x", "float")), gives(X), "output 'x' is float and was double"),
        (gives(), gives(X), "it doesn't say what it gives"),
        (gives(X), gives(), None),
        (gives(Field(None, "long")), gives(Field(None, "long")), None),
        (gives(Field(None, "long"), X), gives(Field(None, "long")), "it has 2 output(s) and had 1"),
        (Interface(params=(X, Y)), Interface(params=(X,)), None),
        (Interface(), Interface(params=(X,)), "param 'x' is gone"),
        (Interface(params=(Field("x", "string"),)), Interface(params=(X,)), "param 'x' takes string and took double"),
    ],
)
def test_what_callers_of_the_old_one_would_trip_over_is_said(new, old, why):
    said = why_incompatible(new, old)
    assert said is None if why is None else said is not None and said.startswith(why), said


def test_all_faults_are_named():
    said = why_incompatible(Interface(inputs=(X, Y), outputs=(X,)), Interface(inputs=(X,), outputs=(Y,)))
    assert said == "input 'y' is required and new; output 'y' is gone"
