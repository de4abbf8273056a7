"""The models that are served, and what was foretold of them offline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

LOGISTIC = "logistic"
FOREST = "forest"
TEXT = "text"

Form = Literal["inputs", "dataframe"]
"""What rows are sent as, and what kind of example a model is logged with: an array, or a table with names of columns.

Texts are always the former.
"""

SAVED = "saved"
"""The model's folder as MLflow saved it."""
ESTIMATOR = "model.joblib"
"""The same estimator as a bare file and without names of columns, as MLServer's runtime for scikit-learn wants it."""
EXAMPLES = "examples.json"


class Examples(msgspec.Struct, frozen=True):
    """Rows to ask about, and what the model says of each when it is called without a server."""

    inputs: list[Any]
    predictions: list[Any]
    columns: list[str] = []
    """The names of a row's values; none where a row is one value."""


def read_examples(files: Path) -> Examples:
    """What training left in the folder *files*."""
    return msgspec.json.decode((files / EXAMPLES).read_bytes(), type=Examples)


def alike(got: Any, foretold: Any) -> bool:
    """Whether two answers are the same, but for the last digits of single precision."""
    if isinstance(foretold, float):
        return isinstance(got, int | float) and abs(got - foretold) <= _TOLERANCE
    if isinstance(foretold, dict):
        return isinstance(got, dict) and got.keys() == foretold.keys() and all(alike(got[k], foretold[k]) for k in got)
    if isinstance(foretold, Sequence) and not isinstance(foretold, str):
        return isinstance(got, list) and len(got) == len(foretold) and all(map(alike, got, foretold))
    return bool(got == foretold)


# A text's score depends a little on what it is padded to.
_TOLERANCE = 1e-5
