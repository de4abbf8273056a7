"""Prediction ids of answers that nobody gave."""

from gateway.feedback.prediction_ids import id_maker


def made_id(key, answered, *, count, at_ms, bucket, prediction, nonce_prefix=b"test"):
    """The id of the answer *count*, given at *at_ms*."""
    make = id_maker(key, answered, nonce_prefix=nonce_prefix, counted=iter([count]), clock_ns=lambda: at_ms * 1_000_000)
    return make(bucket, prediction).decode()
