"""Bucket ownership: shares are met exactly and nobody moves who needn't."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.splits import BUCKETS, SharesDoNotAddUp, all_to, check_shares, expand, hand_over, move_buckets

ARMS = ("champion", "challenger", "third", "fourth")


@st.composite
def shares(draw):
    cuts = sorted(draw(st.lists(st.integers(0, BUCKETS), min_size=len(ARMS) - 1, max_size=len(ARMS) - 1)))
    bounds = [0, *cuts, BUCKETS]
    return {arm: high - low for arm, low, high in zip(ARMS, bounds, bounds[1:], strict=False)}


@given(st.lists(shares(), min_size=1, max_size=5))
def test_each_change_meets_the_shares_and_moves_only_from_shrinking_to_growing_arms(changes):
    owners = all_to("champion")
    held = {"champion": BUCKETS}
    for wanted in changes:
        after = move_buckets(owners, wanted)
        before_list, after_list = expand(owners), expand(after)
        assert len(after_list) == BUCKETS
        assert {arm: after_list.count(arm) for arm in wanted} == wanted
        moved = [(a, b) for a, b in zip(before_list, after_list, strict=True) if a != b]
        fewest = sum(max(0, held.get(arm, 0) - wanted[arm]) for arm in wanted)
        assert len(moved) == fewest
        for source, target in moved:
            assert held.get(source, 0) > wanted[source]
            assert held.get(target, 0) < wanted[target]
        owners, held = after, wanted


def test_the_lowest_buckets_move_first():
    owners = move_buckets(all_to("champion"), {"champion": 8_000, "challenger": 2_000})
    assert owners == (("challenger", 2_000), ("champion", 8_000))


def test_an_arm_that_is_not_ready_gives_its_buckets_to_the_champion_in_one_run():
    owners = (("challenger", 2_000), ("champion", 8_000))
    assert hand_over(owners, {"challenger"}, "champion") == (("champion", BUCKETS),)


@pytest.mark.parametrize("wrong", [{"champion": 9_999}, {"champion": 10_001, "challenger": -1}, {}])
def test_shares_that_do_not_make_a_hundred_percent_are_refused(wrong):
    with pytest.raises(SharesDoNotAddUp, match="10000"):
        check_shares(wrong)
