"""Params of a signature: checked, and completed by their defaults.

They stay JSON values, times as ISO strings: MLflow's own code turns them into Python's where it calls the model.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from loaders.columns import ColumnType, column_array
from loaders.errors import BadInput, shown


class ParamSpec(msgspec.Struct, frozen=True):
    name: str
    type: ColumnType
    default: Any = None
    is_list: bool = False
    """Whether its shape is ``(-1,)``, the only one that MLflow has besides a scalar."""


ParamSpecs = tuple[ParamSpec, ...]


def enforce_params(specs: ParamSpecs, params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The params of *specs* with the values of *params*, else their defaults; unknown ones are dropped.

    Raises:
        BadInput: naming each param of a wrong type.
    """
    given = params or {}
    wrong = [reason for spec in specs if spec.name in given and (reason := _find_misfit(spec, given[spec.name]))]
    if wrong:
        raise BadInput(f"Invalid parameters found: {'; '.join(wrong)}")
    return {spec.name: given.get(spec.name, spec.default) for spec in specs}


def _find_misfit(spec: ParamSpec, value: Any) -> str | None:
    if value is None or spec.type is ColumnType.JSON:
        return None
    expected = f"a list of {spec.type}" if spec.is_list else f"one {spec.type}"
    if isinstance(value, list) is not spec.is_list:
        return f"{spec.name!r} must be {expected}, got {shown(value)}"
    for item in value if spec.is_list else [value]:
        try:
            if item is None:
                raise BadInput("null")  # noqa: TRY301  (the same sentence as for any other wrong item)
            column_array(spec.name, spec.type, [item])
        except BadInput:
            return f"{spec.name!r} must be {expected}, got {shown(item)}"
    return None
