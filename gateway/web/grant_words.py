"""What somebody may do, in words for people. Pure."""

from collections.abc import Collection

import msgspec

from tracking.access.grants import Grant, Kind, beyond
from tracking.access.permissions import Permission, Role

_MAY: dict[str, str] = {
    Role.VIEWER: "see runs, models, artifacts and metrics",
    Role.SCORER: "ask for predictions",
    Role.PUBLISHER: "log runs, upload artifacts and register versions, and see what is there",
    Role.PROMOTER: "move aliases, change splits, pin and approve versions, and see what is there",
    Role.ADMIN: "do everything, and give others access",
    Permission.ALIAS_WRITE: "move aliases",
    Permission.SPLIT_WRITE: "change splits",
    Permission.GATE_WRITE: "change what must hold before an alias moves",
}
"""Other permissions are seldom given by themselves, and say what they are by their names."""


class Choice(msgspec.Struct, frozen=True):
    """A grant that somebody may give a token of theirs."""

    value: str
    words: str


def in_words(grants: Collection[Grant]) -> list[str]:
    return [_words(grant) for grant in sorted(grants)]


def choices_within(own: Collection[Grant]) -> list[Choice]:
    """What whoever has *own* may give: that itself, and each lesser role for the same."""
    offered = list(own)
    for grant in own:
        roles = [Grant(role.value, grant.kind, grant.name, grant.is_prefix) for role in Role]
        offered += [role for role in roles if role not in offered and not beyond([role], own)]
    return [Choice(str(grant), _words(grant)) for grant in sorted(offered)]


def _words(grant: Grant) -> str:
    may = f"{grant.may}: {_MAY[grant.may]}" if grant.may in _MAY else grant.may
    where = f"{grant.kind.value}s whose name begins with" if grant.is_prefix else f"the {grant.kind.value}"
    return may if grant.kind is Kind.EVERYTHING else f"{may}, for {where} {grant.name}"
