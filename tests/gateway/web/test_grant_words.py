"""What somebody may do as the page says it, and what they may give their tokens of that."""

from gateway.web.grant_words import choices_within, in_words
from tracking.access.grants import Grant, beyond
from tracking.access.permissions import Permission, Role


def test_every_role_and_each_permission_has_words():
    for may in [*Role, *(set(Permission) - {Permission.PUBLIC, Permission.SELF})]:
        assert in_words([Grant(may.value)])[0].startswith(may.value)
    assert in_words([Grant.parse("viewer:model:iris-*"), Grant.parse("alias:write:experiment:shop")]) == [
        "alias:write: move aliases, for the experiment shop",
        "viewer: see runs, models, artifacts and metrics, for models whose name begins with iris-",
    ]


def test_one_may_give_what_one_has_and_each_lesser_role_for_the_same():
    own = [Grant.parse("publisher:model:iris-*"), Grant("scorer"), Grant("webhook:read")]
    offered = [choice.value for choice in choices_within(own)]
    assert sorted(offered) == [
        "publisher:model:iris-*", "scorer", "scorer:model:iris-*", "viewer:model:iris-*", "webhook:read",
    ]  # fmt: skip
    assert not beyond(map(Grant.parse, offered), own)
    assert choices_within([]) == []
