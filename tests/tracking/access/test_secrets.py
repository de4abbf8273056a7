"""Secrets by themselves."""

from tracking.access.secrets import NOBODYS_HASH, hash_password


def test_a_user_that_is_not_there_costs_as_much_as_one_that_is():
    def cost(hashed):
        return hashed.rsplit("$", 2)[0]

    assert cost(NOBODYS_HASH) == cost(hash_password("correct horse battery"))
