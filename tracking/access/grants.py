"""What somebody may touch: grants, and the names that they come to. Pure; the database is `users` and `tokens`."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, or_, true

from tracking.access.permissions import PERMISSIONS_OF, Permission, Role
from tracking.errors import InvalidParameter
from tracking.names import check_text

_NAME_LENGTH_MAX = 500
_ANY = "*"


class Kind(StrEnum):
    """What a grant is for."""

    EVERYTHING = "everything"
    MODEL = "model"
    """Registered models: with their versions, aliases, endpoints and predictions."""
    EXPERIMENT = "experiment"
    """Experiments: with their runs, logged models, datasets and artifacts."""


class Grant(msgspec.Struct, frozen=True, order=True):
    """A role, or one permission alone, for what a name says. As text: ``publisher:model:iris-*``, ``admin``."""

    may: str
    """A `Role` or a `Permission`."""
    kind: Kind = Kind.EVERYTHING
    name: str = ""
    is_prefix: bool = False

    @property
    def permissions(self) -> frozenset[Permission]:
        if self.may in _ROLES:
            return PERMISSIONS_OF[Role(self.may)]
        return frozenset({Permission(self.may)})

    def __str__(self) -> str:
        if self.kind is Kind.EVERYTHING:
            return self.may
        return f"{self.may}:{self.kind}:{self.name}{_ANY if self.is_prefix else ''}"

    @classmethod
    def parse(cls, text: str) -> "Grant":
        """Read ``ROLE``, ``ROLE:model:NAME`` or ``ROLE:experiment:PREFIX*``; a permission may stand for the role.

        Raises:
            InvalidParameter: if it is none of these.
        """
        for may in _MAY:
            # By the longest first: a permission has a colon in it too.
            if text == may:
                return cls(may)
            if text.startswith(f"{may}:"):
                kind, _, name = text.removeprefix(f"{may}:").partition(":")
                if kind in _NAMED and name.strip(_ANY):
                    check_text(name, "grant", _NAME_LENGTH_MAX)
                    return cls(may, Kind(kind), name.removesuffix(_ANY), name.endswith(_ANY))
        raise InvalidParameter(
            f"{text[:200]!r} is no grant; expected ROLE, ROLE:model:NAME or ROLE:experiment:NAME, where ROLE is one of "
            f"{', '.join(_ROLES)}, and a NAME that ends in * stands for all that begin so."
        )

    def covers(self, other: "Grant") -> bool:
        """Whether whoever has this one could do all that *other* lets somebody do."""
        return other.permissions <= self.permissions and self.reaches(other)

    def reaches(self, other: "Grant") -> bool:
        """Whether it is for all that *other* is for."""
        if self.kind is Kind.EVERYTHING:
            return True
        if self.kind is not other.kind:
            return False
        if self.is_prefix:
            return other.name.startswith(self.name)
        return not other.is_prefix and other.name == self.name


_ROLES = frozenset(role.value for role in Role)
_NAMED = {Kind.MODEL.value, Kind.EXPERIMENT.value}
_MAY = sorted(
    _ROLES | {permission.value for permission in PERMISSIONS_OF[Role.ADMIN]}, key=lambda may: (-len(may), may)
)


def beyond(grants: Iterable[Grant], own: Iterable[Grant]) -> list[Grant]:
    """Those of *grants* that whoever has *own* can't give, because they don't have as much themselves.

    A role may be covered by several: each of its permissions by some grant that reaches as far.
    """
    held = list(own)
    return [
        grant
        for grant in grants
        if not all(
            any(permission in one.permissions and one.reaches(grant) for one in held)
            for permission in grant.permissions
        )
    ]


class Names(msgspec.Struct, frozen=True):
    """Names of one kind: all, some by themselves, some by how they begin."""

    all: bool = False
    exact: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return self.all or name in self.exact or name.startswith(self.prefixes)

    def __bool__(self) -> bool:
        return self.all or bool(self.exact) or bool(self.prefixes)

    def holds(self, column: Any) -> ColumnElement[bool]:
        """The same as a condition on *column*."""
        if self.all:
            return true()
        begins = [column.startswith(prefix, autoescape=True) for prefix in self.prefixes]
        return or_(column.in_(sorted(self.exact)), *begins)


class Scope(msgspec.Struct, frozen=True):
    """What one permission is granted for."""

    models: Names
    experiments: Names

    @property
    def everything(self) -> bool:
        return self.models.all and self.experiments.all

    def __bool__(self) -> bool:
        return bool(self.models) or bool(self.experiments)


EVERYTHING = Scope(Names(all=True), Names(all=True))
NOTHING = Scope(Names(), Names())


def scope_of(grants: Iterable[Grant], *permissions: Permission) -> Scope:
    """All that any of *permissions* is granted for by *grants*."""
    held = [grant for grant in grants if not grant.permissions.isdisjoint(permissions)]
    if any(grant.kind is Kind.EVERYTHING for grant in held):
        return EVERYTHING
    return Scope(_names(held, Kind.MODEL), _names(held, Kind.EXPERIMENT))


def _names(grants: Iterable[Grant], kind: Kind) -> Names:
    held = [grant for grant in grants if grant.kind is kind]
    return Names(
        exact=frozenset(grant.name for grant in held if not grant.is_prefix),
        prefixes=tuple(sorted(grant.name for grant in held if grant.is_prefix)),
    )
