"""How old, or how new, a prediction may be that feedback is given to. The supervisor needs these, and no more of it."""

from datetime import UTC, datetime

DAY_MS = 86_400_000
SKEW_MS = 60_000
"""How far the clock of the replica that answered may be ahead of the one that is given feedback."""
ROTATION_MS = 3_600_000
"""How long a replica that is cut off from the database may go on signing with a key that was given up."""


def day_of(at_ms: int) -> str:
    """The day of an instant, by UTC, as the prediction log has it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()
