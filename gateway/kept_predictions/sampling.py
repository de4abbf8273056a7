"""Which predictions are kept: by their ids alone, so that anybody who has an id can work it out again. Pure.

An id has the nonce of its answer at a place of its own, and another nonce is another draw. docs/prediction-log.md says
the same to others.
"""

from hashlib import sha256

_NONCE = slice(44, 60)
"""Where the characters of the nonce are, of which twelve bytes make sixteen whole ones."""
_DRAWS = 2**64


def threshold_of(share: float) -> int:
    """Below what a draw must be, for *share* of all predictions to be kept."""
    return int(share * _DRAWS)


def why_not_kept(prediction_id: str, share: float) -> str | None:
    """Why a log of *share* of all predictions doesn't keep the one with this id, in words; None if it does."""
    if not share:
        return "the prediction log is off"
    if is_sampled(prediction_id.encode(), threshold_of(share)):
        return None
    return f"the prediction log, which keeps a share of {share:g} of all answers, hasn't kept this one"


def is_sampled(prediction_id: bytes, threshold: int) -> bool:
    """Whether the prediction with this id is one of those that are kept."""
    return int.from_bytes(sha256(prediction_id[_NONCE]).digest()[:8], "big") < threshold
