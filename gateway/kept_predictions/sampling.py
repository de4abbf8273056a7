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


def is_sampled(prediction_id: bytes, threshold: int) -> bool:
    """Whether the prediction with this id is one of those that are kept."""
    return int.from_bytes(sha256(prediction_id[_NONCE]).digest()[:8], "big") < threshold
