"""Whether callers of one version can be answered by another without noticing: a pure comparison of two interfaces."""

import re
from collections.abc import Callable, Iterator, Sequence

from registry.entities import Field, Interface

# Which column types take all values of another, beside each its own: as MLflow's clients may send them.
_WIDER = {"integer": {"long", "double"}, "float": {"double"}}
_ANYTHING = "json"
_HOLD_SMALLER = {("int", "uint"), ("float", "int"), ("float", "uint")}
_NUMBER = re.compile(r"(?P<kind>u?int|float)(?P<bits>\d+)")
_LENGTH_MAX = 500


def why_incompatible(new: Interface, old: Interface) -> str | None:
    """What a caller of *old* would trip over with *new*, as a clause; None if nothing.

    What *old* leaves open promises nothing. An input that is new must be optional, one that is there must take at least
    what it took; one that is gone is dropped when it comes. Outputs must be there still, of the same type.
    """
    faults = [*_input_faults(new.inputs, old.inputs), *_output_faults(new.outputs, old.outputs)]
    faults += _param_faults(new.params, old.params)
    return "; ".join(faults)[:_LENGTH_MAX] or None


def _input_faults(new: Sequence[Field], old: Sequence[Field]) -> Iterator[str]:
    if not new or not old:
        return
    if _by_position(new) or _by_position(old):
        yield from _faults_by_position(
            "input", new, old, lambda one, other: _takes(one, other) and _may_lack(one, other)
        )
        if len(old) > 1 and not _by_position(old):
            yield "its inputs go by their places, and went by names that callers may send in any order"
        # Rows of a champion with names may come without them, and those of one without names always do.
        return
    known = {field.name: field for field in old}
    for field in new:
        before = known.get(field.name)
        if before is None:
            if field.required:
                yield f"input {field.name!r} is required and new"
        elif not _may_lack(field, before):
            yield f"input {field.name!r} was optional"
        elif not _takes(field, before):
            yield f"input {field.name!r} takes {_type(field)} and took {_type(before)}"


def _output_faults(new: Sequence[Field], old: Sequence[Field]) -> Iterator[str]:
    if not old:
        return
    if not new:
        yield "it doesn't say what it gives"
    elif _by_position(new) or _by_position(old):
        yield from _faults_by_position("output", new, old, _gives)
    else:
        given = {field.name: field for field in new}
        for before in old:
            field = given.get(before.name)
            if field is None:
                yield f"output {before.name!r} is gone"
            elif not _gives(field, before):
                yield f"output {before.name!r} is {_type(field)} and was {_type(before)}"


def _param_faults(new: Sequence[Field], old: Sequence[Field]) -> Iterator[str]:
    known = {field.name: field for field in new}
    for before in old:
        field = known.get(before.name)
        # One that is gone would be dropped without a word, and the answer be another.
        if field is None:
            yield f"param {before.name!r} is gone"
        elif not _takes(field, before):
            yield f"param {before.name!r} takes {_type(field)} and took {_type(before)}"


def _faults_by_position(
    what: str, new: Sequence[Field], old: Sequence[Field], fits: Callable[[Field, Field], bool]
) -> Iterator[str]:
    if len(new) != len(old):
        yield f"it has {len(new)} {what}(s) and had {len(old)}"
        return
    for place, (field, before) in enumerate(zip(new, old, strict=True), start=1):
        if field.name != before.name and None not in (field.name, before.name):
            yield f"{what} {place} is {field.name!r} and was {before.name!r}"
        elif not fits(field, before):
            yield f"{what} {place} is {_type(field)} and was {_type(before)}"


def _by_position(fields: Sequence[Field]) -> bool:
    return any(field.name is None for field in fields)


def _takes(new: Field, old: Field) -> bool:
    """Whether each value of *old* is one of *new*."""
    return _is_wider(new.type, old.type) and _has_shape_of(new, old)


def _may_lack(new: Field, old: Field) -> bool:
    """Whether *new* is optional if *old* was."""
    return not new.required or old.required


def _gives(new: Field, old: Field) -> bool:
    return new.type == old.type and _has_shape_of(old, new)


def _is_wider(new: str, old: str) -> bool:
    if new in {old, _ANYTHING} or new in _WIDER.get(old, ()):
        return True
    wanted, given = _NUMBER.fullmatch(new), _NUMBER.fullmatch(old)
    if wanted is None or given is None:
        return False
    bits, bits_before = int(wanted["bits"]), int(given["bits"])
    if wanted["kind"] == given["kind"]:
        return bits >= bits_before
    # No digit may be lost: a signed integer holds the smaller unsigned ones, a float the smaller integers.
    return (wanted["kind"], given["kind"]) in _HOLD_SMALLER and bits > bits_before


def _has_shape_of(wide: Field, narrow: Field) -> bool:
    if wide.shape is None or narrow.shape is None:
        return wide.shape == narrow.shape
    return len(wide.shape) == len(narrow.shape) and all(
        axis in (-1, other) for axis, other in zip(wide.shape, narrow.shape, strict=True)
    )


def _type(field: Field) -> str:
    shape = "" if field.shape is None else f" {list(field.shape)}"
    return f"{'' if field.required else 'optional '}{field.type}{shape}"
