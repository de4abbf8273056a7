"""How a shadow's answers differ from those that were given: sums that merge, and the rows that differ most.

A label agrees where it is equal, a number where it is within a relative tolerance; a row where all of it agrees, and a
request where all its rows do. Answers of different outputs, or of different shapes, agree in nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.comparison.distribution import Distribution
from gateway.comparison.latency_counts import Counts, bucket_of, no_requests
from gateway.comparison.sums import Answerer, Floats, UnreadableSums
from loaders.base import Answer, Batch, JsonAnswer

OUTPUTS_MAX = 16
"""Outputs that are told apart, the first by name; the rest count in rows and requests alone."""
ANSWERERS_MAX = 8
"""Answerers that a shadow is compared with in one period, the newest."""
_NAME_CHARACTERS_MAX = 100
_FORMAT = 1

Flags = NDArray[np.bool_]


class OutputDifference(msgspec.Struct, frozen=True):
    """One output, of some rows."""

    agrees: Flags
    """Shape (rows,)."""
    differences: Floats | None
    """The shadow's less the given, shape (rows, values of a row); None where they are no numbers."""


class Worst(msgspec.Struct, frozen=True, order=True):
    """A row that differs: by a label before any number, and the more the larger its difference."""

    labels: bool
    """Whether a label of it differs."""
    difference: float
    """The largest of its numbers' absolute differences, infinite where one of two isn't finite."""
    row: int


class Comparison(msgspec.Struct, frozen=True):
    """A shadow's answer, beside the one that was given: of one request, or of several laid end to end."""

    agrees: Flags
    """Shape (rows,)."""
    outputs: Mapping[str, OutputDifference]
    """Empty where the two can't be laid side by side."""

    def worst(self, count: int) -> list[Worst]:
        """The rows that differ most, *count* of them if there are so many."""
        labels, numbers = np.zeros(self.agrees.size, dtype=np.bool_), np.zeros(self.agrees.size)
        for output in self.outputs.values():
            if output.differences is None:
                labels |= ~output.agrees
            elif output.differences.size:
                # NaN on one side is as far from a number as can be.
                sizes = np.nan_to_num(np.abs(output.differences), nan=math.inf, posinf=math.inf).max(axis=1)
                numbers = np.maximum(numbers, np.where(output.agrees, 0.0, sizes))
        if not self.outputs:
            labels = ~self.agrees
        ranked = np.lexsort((numbers, labels))[::-1]
        rows = ranked[~self.agrees[ranked]][:count]
        return [Worst(bool(labels[row]), float(numbers[row]), int(row)) for row in rows]


def compare(given: Answer, shadows: Answer, *, rows: int, tolerance: float) -> Comparison:
    """Lay two answers to *rows* rows side by side; *tolerance* is relative to the larger of two numbers."""
    if isinstance(given, JsonAnswer) or isinstance(shadows, JsonAnswer):
        return Comparison(np.full(rows, _are_alike(given, shadows, tolerance)), {})
    if shadows.columns.keys() != given.columns.keys() or not all(answers_each(one, rows) for one in (given, shadows)):
        return Comparison(np.zeros(rows, dtype=np.bool_), {})
    if not rows:
        return Comparison(np.ones(0, dtype=np.bool_), {})
    outputs = {
        name: _compare_output(values, shadows.columns[name], tolerance) for name, values in given.columns.items()
    }
    agrees = np.ones(rows, dtype=np.bool_)
    for output in outputs.values():
        agrees &= output.agrees
    return Comparison(agrees, outputs)


def answers_each(answer: Answer, rows: int) -> bool:
    """Whether *answer* is one value or more for each of *rows* rows."""
    return isinstance(answer, Batch) and all(len(values) == rows for values in answer.columns.values())


def laid_end_to_end(answers: Sequence[Answer]) -> Batch | None:
    """One answer of all rows, in order; None where they aren't of one kind."""
    first = answers[0]
    if isinstance(first, JsonAnswer):
        return None
    kind = _kind_of(first)
    parts = [answer for answer in answers if isinstance(answer, Batch) and _kind_of(answer) == kind]
    if len(parts) != len(answers):
        return None
    if len(parts) == 1:
        return first
    return Batch(first.form, {name: np.concatenate([one.columns[name] for one in parts]) for name in first.columns})


def _kind_of(answer: Batch) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(name, values.dtype.kind, values.shape[1:]) for name, values in answer.columns.items()]


def _compare_output(given: np.ndarray, shadows: np.ndarray, tolerance: float) -> OutputDifference:
    rows = len(given)
    if given.shape != shadows.shape:
        return OutputDifference(np.zeros(rows, dtype=np.bool_), None)
    kinds = given.dtype.kind + shadows.dtype.kind
    if "f" in kinds and set(kinds) <= set("fiu"):
        return _compare_numbers(
            given.reshape(rows, -1).astype(np.float64), shadows.reshape(rows, -1).astype(np.float64), tolerance
        )
    alike = np.asarray(given == shadows, dtype=np.bool_).reshape(rows, -1)
    if kinds == "MM":
        alike |= (np.isnat(given) & np.isnat(shadows)).reshape(rows, -1)
    return OutputDifference(_of_rows(alike), None)


def _compare_numbers(given: Floats, shadows: Floats, tolerance: float) -> OutputDifference:
    with np.errstate(invalid="ignore", over="ignore"):
        differences = shadows - given
        close = np.abs(differences) <= tolerance * np.maximum(np.abs(given), np.abs(shadows))
        if not np.isfinite(differences).all():
            # An infinite tolerance would let anything pass beside an infinity.
            both = (given == shadows) | (np.isnan(given) & np.isnan(shadows))
            close = both | (close & np.isfinite(differences))
            differences = np.where(both, 0.0, differences)
    return OutputDifference(_of_rows(close), differences)


def _of_rows(values: Flags) -> Flags:
    rows: Flags = np.all(values, axis=1)
    return rows


def _are_alike(given: Answer, shadows: Answer, tolerance: float) -> bool:
    if not isinstance(given, JsonAnswer) or not isinstance(shadows, JsonAnswer):
        return False
    if given.text == shadows.text:
        return True
    try:
        return _values_alike(msgspec.json.decode(given.text), msgspec.json.decode(shadows.text), tolerance)
    except (msgspec.DecodeError, RecursionError, OverflowError):
        # One has NaN, for which Python's own writer has a word, is nested too deep, or a number beyond all floats.
        return False


def _values_alike(one: Any, other: Any, tolerance: float) -> bool:
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(_values_alike(one[key], other[key], tolerance) for key in one)
        case list(), list():
            pairs = zip(one, other, strict=False)
            return len(one) == len(other) and all(_values_alike(*pair, tolerance) for pair in pairs)
        case (float(), int() | float()) | (int(), float()):
            return math.isclose(one, other, rel_tol=tolerance)
        case _:
            return bool(one == other)


# --- sums


class OutputSums(msgspec.Struct, kw_only=True):
    """Of one output, over all rows that were compared."""

    rows: int = 0
    agreeing: int = 0
    absolute: float = 0.0
    """The sum of the absolute differences of its numbers."""
    differences: Distribution = msgspec.field(default_factory=Distribution)

    def add(self, output: OutputDifference) -> None:
        """Count some rows."""
        self.rows += output.agrees.size
        self.agreeing += int(np.count_nonzero(output.agrees))
        if output.differences is not None:
            values = output.differences.ravel()
            self.differences.add_numbers(values)
            self.absolute += float(np.abs(values[np.isfinite(values)]).sum())

    def merge(self, other: "OutputSums") -> None:
        self.rows += other.rows
        self.agreeing += other.agreeing
        self.absolute += other.absolute
        self.differences.merge(other.differences)

    @property
    def mean_absolute(self) -> float:
        """Of the differences; NaN if there are none."""
        return self.absolute / self.differences.numbers if self.differences.numbers else math.nan

    @property
    def largest(self) -> float:
        """The largest absolute difference; 0 if there are none."""
        return max(-self.differences.lowest, self.differences.highest, 0.0)


class PairSums(msgspec.Struct, kw_only=True):
    """A shadow beside one of those who answered."""

    compared: int = 0
    agreed: int = 0
    failures: dict[str, int] = {}
    """The shadow's, by error code."""
    dropped: int = 0
    """Copies that the shadow wasn't asked, as too many were waiting."""
    rows: int = 0
    rows_agreeing: int = 0
    outputs: dict[str, OutputSums] = {}
    given_latency: dict[int, int] = {}
    """By `bucket_of`, of requests that both were asked alone; of each as many as `shadow_latency`."""
    shadow_latency: dict[int, int] = {}

    def add(self, comparison: Comparison, rows: Sequence[int]) -> int:
        """Count requests of so many *rows* each, laid end to end; how many of them agreed."""
        begins = np.concatenate([[0], np.cumsum(rows)])
        agreeing = np.concatenate([[0], np.cumsum(comparison.agrees)])
        agreed = int(np.count_nonzero(np.diff(agreeing[begins]) == rows))
        self.compared += len(rows)
        self.agreed += agreed
        self.rows += comparison.agrees.size
        self.rows_agreeing += int(agreeing[-1])
        for name, output in comparison.outputs.items():
            self.outputs.setdefault(_short(name), OutputSums()).add(output)
        self._forget_outputs()
        return agreed

    def add_failure(self, code: str) -> None:
        self.failures[code] = self.failures.get(code, 0) + 1

    def add_latency(self, given_s: float, shadow_s: float) -> None:
        for counts, seconds in ((self.given_latency, given_s), (self.shadow_latency, shadow_s)):
            bucket = bucket_of(seconds)
            counts[bucket] = counts.get(bucket, 0) + 1

    def merge(self, other: "PairSums") -> None:
        self.compared += other.compared
        self.agreed += other.agreed
        self.dropped += other.dropped
        self.rows += other.rows
        self.rows_agreeing += other.rows_agreeing
        for name, sums in other.outputs.items():
            self.outputs.setdefault(name, OutputSums()).merge(sums)
        self._forget_outputs()
        for ours, theirs in (
            (self.given_latency, other.given_latency),
            (self.shadow_latency, other.shadow_latency),
            (self.failures, other.failures),
        ):
            _add_counts(ours, theirs)

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def _forget_outputs(self) -> None:
        for name in sorted(self.outputs)[OUTPUTS_MAX:]:
            del self.outputs[name]


class ShadowSums:
    """A shadow's version in one period, beside each of those who answered."""

    def __init__(self) -> None:
        self.pairs: dict[Answerer, PairSums] = {}

    def beside(self, answerer: Answerer) -> PairSums:
        """The sums to count in; made when they are first asked for."""
        return self.pairs.get(answerer) or self.pairs.setdefault(answerer, PairSums())

    def merge(self, other: "ShadowSums") -> None:
        """Count what *other* has counted as well."""
        for answerer, sums in other.pairs.items():
            self.beside(answerer).merge(sums)
        # By what they are and not by how much was counted, so that it doesn't matter in which order sums are merged.
        newest = sorted(self.pairs, key=lambda who: (who[1], who[0]), reverse=True)
        for answerer in newest[ANSWERERS_MAX:]:
            del self.pairs[answerer]

    def to_bytes(self) -> bytes:
        """MessagePack, with the number of the format in front."""
        return msgspec.msgpack.encode((_FORMAT, sorted(self.pairs.items(), key=lambda item: item[0])))

    @classmethod
    def from_bytes(cls, content: bytes) -> "ShadowSums":
        """What `to_bytes` wrote, of this release or another with the same format.

        Raises:
            UnreadableSums: if it is damaged, or of a format that this release doesn't know.
        """
        try:
            version = msgspec.msgpack.decode(content, type=tuple[int, msgspec.Raw])[0]
            if version != _FORMAT:
                raise UnreadableSums(f"they are of format {version}, and {_FORMAT} is known")
            pairs = msgspec.msgpack.decode(content, type=tuple[int, list[tuple[Answerer, PairSums]]])[1]
        except msgspec.MsgspecError as error:
            raise UnreadableSums(str(error)) from error
        sums = cls()
        sums.pairs = dict(pairs)
        return sums


def merged(old: bytes, new: bytes) -> bytes:
    """What `registry.tallies` merges the kind SHADOW by."""
    sums = ShadowSums.from_bytes(old)
    sums.merge(ShadowSums.from_bytes(new))
    return sums.to_bytes()


def latency_counts(buckets: Mapping[int, int]) -> Counts:
    """A histogram of `PairSums` as quantiles are read from."""
    counts = no_requests()
    for bucket, count in buckets.items():
        if bucket < counts.size:
            counts[bucket] += count
    return counts


def _add_counts(ours: dict[Any, int], theirs: Mapping[Any, int]) -> None:
    for key, count in theirs.items():
        ours[key] = ours.get(key, 0) + count


def _short(name: str) -> str:
    return name[:_NAME_CHARACTERS_MAX].encode(errors="backslashreplace").decode()
