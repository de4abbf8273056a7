"""What a model predicts, and how often: classes by name, numbers in places 4.4 % apart. Bounded, and it merges.

Two arms whose predictions are distributed alike may still disagree on every input; two that aren't surely differ.
"""

import math
from collections import Counter

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.comparison.sums import Floats

CLASSES_MAX = 100
"""Names that are kept, the most frequent; the others are counted together."""
NAME_CHARACTERS_MAX = 100
PLACES_AN_OCTAVE = 16
OCTAVES = 30
"""Numbers are told apart from 2^-30 to 2^30, either sign; what lies outside counts at the ends."""
_OUTERMOST = 2 * OCTAVES * PLACES_AN_OCTAVE


class Distribution(msgspec.Struct, kw_only=True):
    """Of single predictions: one class, or one number."""

    classes: dict[str, int] = {}
    other_classes: int = 0
    numbers: int = 0
    total: float = 0.0
    squares: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf
    places: dict[int, int] = {}
    """How many of the numbers lie where; see `place_of`."""
    not_finite: int = 0
    """NaN and the infinities, which are in none of the above."""

    def add_classes(self, names: Counter[str]) -> None:
        """Count what was answered so many times; names are cut off at 100 characters."""
        for name, count in names.items():
            # A model may answer with anything, and half of a pair of surrogates can't be written.
            short = name[:NAME_CHARACTERS_MAX].encode(errors="backslashreplace").decode()
            self.classes[short] = self.classes.get(short, 0) + count
        self._forget_rare_classes()

    def add_numbers(self, values: Floats) -> None:
        """Count numbers, shape (answers,)."""
        finite = values[np.isfinite(values)]
        self.not_finite += values.size - finite.size
        if not finite.size:
            return
        self.numbers += finite.size
        with np.errstate(over="ignore"):
            self.total += float(finite.sum())
            self.squares += float(np.square(finite).sum())
        self.lowest = min(self.lowest, float(finite.min()))
        self.highest = max(self.highest, float(finite.max()))
        places, counts = np.unique(places_of(finite), return_counts=True)
        self._add_places(dict(zip(places.tolist(), counts.tolist(), strict=True)))

    def merge(self, other: "Distribution") -> None:
        """Count what *other* has counted as well."""
        self.classes = dict(Counter(self.classes) + Counter(other.classes))
        self.other_classes += other.other_classes
        self._forget_rare_classes()
        self.numbers += other.numbers
        self.total += other.total
        self.squares += other.squares
        self.lowest = min(self.lowest, other.lowest)
        self.highest = max(self.highest, other.highest)
        self._add_places(other.places)
        self.not_finite += other.not_finite

    @property
    def mean(self) -> float:
        """Of the numbers; NaN if there are none."""
        return self.total / self.numbers if self.numbers else math.nan

    @property
    def deviation(self) -> float:
        """Their standard deviation."""
        # Not `mean**2`, which raises where it overflows; of such numbers nothing can be said.
        square = self.mean * self.mean
        return math.sqrt(max(self.squares / self.numbers - square, 0.0)) if self.numbers else math.nan

    def quantile(self, share: float) -> float:
        """The number that *share* of the numbers don't exceed, to 2.2 %; NaN if there are none."""
        reached = 0
        for place, count in sorted(self.places.items()):
            reached += count
            if reached >= share * self.numbers:
                return min(max(_middle_of(place), self.lowest), self.highest)
        return math.nan

    def histogram(self) -> list[tuple[float, float, int]]:
        """How many of the numbers lie from where to where, in order, each place twice as wide as the next to zero."""
        octaves: Counter[int] = Counter()
        for place, count in self.places.items():
            octaves[-(-abs(place) // PLACES_AN_OCTAVE) * (1 if place > 0 else -1)] += count
        return [(*_ends_of(octave), count) for octave, count in sorted(octaves.items())]

    def _add_places(self, places: dict[int, int]) -> None:
        for place, count in places.items():
            self.places[place] = self.places.get(place, 0) + count

    def _forget_rare_classes(self) -> None:
        if len(self.classes) <= CLASSES_MAX:
            return
        # By name where two are as frequent, so that it doesn't matter who was counted first.
        ranked = sorted(self.classes.items(), key=lambda item: (-item[1], item[0]))
        self.classes = dict(ranked[:CLASSES_MAX])
        self.other_classes += sum(count for _, count in ranked[CLASSES_MAX:])


def places_of(finite: Floats) -> NDArray[np.int64]:
    """Where each number lies, shape (numbers,): 0 is zero, and the further from it the larger, negative below it."""
    with np.errstate(divide="ignore"):
        octaves = np.log2(np.abs(finite)) + OCTAVES
    places = np.clip(np.floor(octaves * PLACES_AN_OCTAVE) + 1, 1, _OUTERMOST)
    signed: NDArray[np.int64] = (np.sign(finite) * places).astype(np.int64)
    return signed


def _middle_of(place: int) -> float:
    if not place:
        return 0.0
    return math.copysign(2.0 ** ((abs(place) - 0.5) / PLACES_AN_OCTAVE - OCTAVES), place)


def _ends_of(octave: int) -> tuple[float, float]:
    """Where an octave begins and ends: the first on either side of zero is 1, or -1."""
    if not octave:
        return 0.0, 0.0
    ends = 2.0 ** (abs(octave) - 1 - OCTAVES), 2.0 ** (abs(octave) - OCTAVES)
    return ends if octave > 0 else (-ends[1], -ends[0])
