"""The assignment is the published function: these figures may never change."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from gateway.scoring.routing import BUCKETS, bucket_of


@given(st.text(), st.text(), st.text())
def test_a_bucket_is_the_first_eight_bytes_of_a_sha256_modulo_ten_thousand(endpoint_id, salt, unit):
    parts = [part.encode("utf-8", "surrogatepass") for part in (endpoint_id, salt, unit)]
    digest = hashlib.sha256(b"\x00".join(parts)).hexdigest()
    assert bucket_of(endpoint_id, salt, unit) == int(digest[:16], 16) % BUCKETS


def test_known_units_keep_their_buckets():
    # As `printf 'e1\\0salt\\0ann' | sha256sum` gives them.
    assert [bucket_of("e1", "salt", unit) for unit in ("", "ann", "bob", "日本")] == [4071, 4449, 5888, 5062]


def test_the_owner_of_the_bucket_is_the_arm():
    owners = ["challenger"] * 5_000 + ["champion"] * 5_000
    assert owners[bucket_of("e1", "salt", "ann")] == "challenger"
    assert owners[bucket_of("e1", "salt", "bob")] == "champion"


def test_units_spread_as_the_shares_say():
    owners = ["challenger"] * 2_000 + ["champion"] * 8_000
    hits = sum(owners[bucket_of("e1", "salt", f"user-{n}")] == "challenger" for n in range(20_000))
    # Five standard deviations of a binomial: 20,000 draws at 20 %.
    assert abs(hits - 4_000) < 5 * (20_000 * 0.2 * 0.8) ** 0.5
