from loadtests.shares import Shares


def test_shares_are_parts_of_what_was_seen():
    shares = Shares()
    assert shares.lines() == ["arms       none seen", "versions   none seen"]
    for _ in range(4):
        shares.add(arm="champion", version="1")
    shares.add(arm="challenger", version="2")
    assert shares.lines() == ["arms       champion 80.0%  challenger 20.0%", "versions   1 80.0%  2 20.0%"]
