"""That a faster predictor is wanted. Imports nothing of what it takes, so that whoever starts hosts may ask for it."""

from pathlib import Path

import msgspec


class AccelerationWish(msgspec.Struct, frozen=True, kw_only=True):
    """That a faster equivalent is looked for, and within what."""

    folder: Path | None = None
    """Where converted models are kept for later loads of the same files; None keeps none."""
    timeout_s: float = 20.0
    """Longest time to convert and prove; over it the estimator serves."""
