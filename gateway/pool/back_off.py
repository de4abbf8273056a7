"""How long a version waits before it is tried again. Pure: counts in, seconds out."""

ENDS_COUNTED_S = 60.0
"""How long the end of a host that served counts against its version."""
_ENDS_FORGIVEN = 5


def pause_after_load_s(failures: int, *, first_s: float, longest_s: float) -> float:
    """After so many loads in a row that failed."""
    return min(longest_s, first_s * 2.0 ** min(failures - 1, 30))


def pause_after_end_s(ends: int, *, first_s: float, longest_s: float) -> float:
    """After a host that served has ended, the last of so many within `ENDS_COUNTED_S`.

    Callers are waiting: the first is replaced at once, and some more after the first pause. A model that goes on ending
    is slowed down as if it couldn't be loaded.
    """
    if ends == 1:
        return 0.0
    return pause_after_load_s(max(1, ends - _ENDS_FORGIVEN + 1), first_s=first_s, longest_s=longest_s)
