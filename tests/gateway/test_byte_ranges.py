import pytest

from gateway.api.byte_ranges import ByteRange, RangeNotSatisfiable, read_range


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", ByteRange(0, 1)),
        ("bytes=2-5", ByteRange(2, 6)),
        ("Bytes=2-5", ByteRange(2, 6)),
        ("bytes=5-", ByteRange(5, 10)),
        ("bytes=5-100", ByteRange(5, 10)),
        ("bytes=-3", ByteRange(7, 10)),
        ("bytes=-30", ByteRange(0, 10)),
    ],
)
def test_one_range_is_taken(header, part):
    assert read_range(header, 10) == part


@pytest.mark.parametrize(
    "header", [None, "", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b", "bytes=٣-", "0-1"]
)
def test_anything_else_means_all_of_it(header):
    assert read_range(header, 10) is None


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=9999999999999999999-"])
def test_a_range_beyond_the_end_is_refused(header):
    with pytest.raises(RangeNotSatisfiable):
        read_range(header, 10)
