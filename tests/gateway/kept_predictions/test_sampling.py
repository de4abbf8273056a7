from gateway.feedback.prediction_ids import Answered, read_id
from gateway.kept_predictions.sampling import is_sampled, threshold_of
from registry.entities import PredictionKey
from tests.gateway.made_ids import made_id

KEY = PredictionKey(id="00000001", secret=b"s" * 32, made_ms=0, retired_ms=None)
ANSWERED = Answered("ab" * 16, 3, "challenger", 7)


def ids(count, bucket=17, prediction=None, *, key=KEY, answered=ANSWERED, nonce_prefix=b"mine"):
    return [
        made_id(
            key,
            answered,
            count=number,
            at_ms=1_700_000_000_000 + number,
            bucket=bucket,
            prediction=prediction,
            nonce_prefix=nonce_prefix,
        ).encode()
        for number in range(count)
    ]


def test_a_draw_depends_on_the_nonce_and_on_nothing_else_that_an_id_says():
    other = {
        "key": PredictionKey(id="0000000f", secret=b"t" * 32, made_ms=0, retired_ms=None),
        "answered": Answered("cd" * 16, 4, "champion", 8),
    }
    half = threshold_of(0.5)
    drawn = [is_sampled(one, half) for one in ids(200)]
    assert drawn == [is_sampled(one, half) for one in ids(200, bucket=None, prediction="setosa", **other)]
    assert drawn != [is_sampled(one, half) for one in ids(200, nonce_prefix=b"more")]
    assert read_id(ids(1)[0].decode(), {KEY.id: KEY}).nonce == b"mine" + bytes(8)


def test_as_many_are_sampled_as_were_asked_for():
    assert all(is_sampled(one, threshold_of(1)) for one in ids(1_000))
    assert not any(is_sampled(one, threshold_of(0)) for one in ids(1_000))
    # Within four standard deviations; ids and draws are always the same.
    assert abs(sum(is_sampled(one, threshold_of(0.1)) for one in ids(20_000)) - 2_000) < 170


def test_a_larger_share_holds_all_of_a_smaller_one():
    kept = [{one for one in ids(1_000) if is_sampled(one, threshold_of(share))} for share in (0.1, 0.3)]
    assert kept[0] < kept[1]
