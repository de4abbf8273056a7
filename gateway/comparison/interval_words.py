"""An interval as people read it: an end that nothing is known of isn't named."""

import math


def spoken(lower: float | None, upper: float | None, form: str, *, floor: float = -math.inf) -> str | None:
    """``1.2 to 3.4``, ``at most 3.4``, ``at least 1.2``; None where nothing is known of either end.

    *form* is a format's; an end that is None or infinite isn't known, nor a lower one that is no higher than *floor*.
    """
    has_lower = lower is not None and math.isfinite(lower) and lower > floor
    has_upper = upper is not None and math.isfinite(upper)
    if has_lower and has_upper:
        return f"{lower:{form}} to {upper:{form}}"
    if has_upper:
        return f"at most {upper:{form}}"
    return f"at least {lower:{form}}" if has_lower else None
