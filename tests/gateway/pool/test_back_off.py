"""A host that served is replaced at once; a model that can't be loaded, or goes on ending, waits longer each time."""

from gateway.pool.back_off import pause_after_end_s, pause_after_load_s


def test_the_pause_after_a_failed_load_doubles_up_to_its_bound():
    pauses = [pause_after_load_s(failures, first_s=1, longest_s=10) for failures in (1, 2, 3, 4, 5, 1_000)]
    assert pauses == [1, 2, 4, 8, 10, 10]


def test_a_host_that_served_is_replaced_at_once_and_one_that_goes_on_ending_later_and_later():
    pauses = [pause_after_end_s(ends, first_s=1, longest_s=10) for ends in (1, 2, 3, 4, 5, 6, 7, 8, 9, 1_000)]
    assert pauses == [0, 1, 1, 1, 1, 2, 4, 8, 10, 10]
