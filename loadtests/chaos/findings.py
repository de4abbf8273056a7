"""What a scenario found: figures for people, and whether what was promised held."""

import math
from collections.abc import Iterable, Sequence

import msgspec

from loadtests import tables
from loadtests.chaos.clients import Outcome
from loadtests.chaos.open_loop import is_success, took_ms

HEADING = tables.heading("scenario", "requests", "failed", "slowest ms", "recovery s", "figures", "held")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    what: str
    requests: int
    failed: int
    slowest_ms: float = math.nan
    """NaN where none was to be measured."""
    recovery_s: float = math.nan
    """From the end, or the beginning, of what was done until all was as before; NaN where nothing had to recover."""
    figures: str = ""
    missed: tuple[str, ...] = ()
    """What was promised and didn't hold, a sentence each."""

    @classmethod
    def broken_off(cls, what: str, error: Exception) -> "Finding":
        """A scenario that couldn't be played to its end."""
        said = str(error).replace("\n", " ").replace("|", "/")
        return cls(what=what, requests=0, failed=0, missed=(f"broken off: {type(error).__name__}: {said}",))

    @property
    def held(self) -> bool:
        return not self.missed

    def line(self) -> str:
        held = "yes" if self.held else f"**no**: {'; '.join(self.missed)}"
        return tables.line(
            self.what,
            f"{self.requests:,}",
            f"{self.failed:,}",
            _figure(self.slowest_ms, ".0f"),
            _figure(self.recovery_s, ".2f"),
            self.figures,
            held,
        )


def _figure(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def found(
    what: str,
    outcomes: Sequence[Outcome],
    promises: Iterable[tuple[bool, str]],
    *,
    recovery_s: float = math.nan,
    figures: str = "",
) -> Finding:
    """The line of *outcomes*; each of *promises* is whether it held and what to say if it didn't."""
    answered = [outcome for outcome in outcomes if is_success(outcome)]
    return Finding(
        what=what,
        requests=len(outcomes),
        failed=len(outcomes) - len(answered),
        slowest_ms=max(took_ms(answered), default=math.nan),
        recovery_s=recovery_s,
        figures=figures,
        missed=tuple(said for held, said in promises if not held),
    )
