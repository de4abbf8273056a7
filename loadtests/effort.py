"""How long a benchmark looks."""

from typing import NamedTuple


class Effort(NamedTuple):
    """So many rounds of each server, in turns, so that whatever else the machine does meets all of them alike."""

    rounds: int
    round_s: int
    """Whole seconds, since wrk knows no others."""
