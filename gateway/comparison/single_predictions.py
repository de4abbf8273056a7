"""One class or one number, as the answers that are counted and given feedback have it."""

from loaders.base import Answer, Batch

Value = bool | int | float | str
"""A class (a bool, an int, a text), or a number (a float)."""


def find_single(answer: Answer) -> Value | None:
    """What *answer* says, if that is one class or one number; None if it says more, or something else."""
    if not isinstance(answer, Batch) or len(answer.columns) != 1:
        return None
    [values] = answer.columns.values()
    if values.size != 1:
        return None
    value = values.item()
    # By type and not by dtype: an array of objects holds anything.
    return value if type(value) in _SINGLE else None


_SINGLE = frozenset({bool, int, float, str})
