"""Which arm answers for a unit: a published function (docs/assignment.md) that anybody can replay.

Pure: no clock, no randomness, no table of units. The bucket of a unit is fixed by its name; who owns the bucket is
stored with the split.
"""

from hashlib import sha256

BUCKETS = 10_000


def bucket_of(endpoint_id: str, salt: str, unit: str) -> int:
    """The bucket, 0 to 9,999, of *unit*: the first 8 bytes of a SHA-256, big-endian, modulo 10,000."""
    # surrogatepass, because a header may hold bytes that aren't UTF-8 and must still hash to something.
    key = f"{endpoint_id}\0{salt}\0{unit}".encode("utf-8", "surrogatepass")
    return int.from_bytes(sha256(key).digest()[:8], "big") % BUCKETS
