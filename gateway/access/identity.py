"""Who is calling, as it is known for the length of a request."""

from contextvars import ContextVar

import msgspec

from gateway.access.credentials import NoCredentials
from gateway.access.rate_limits import Bucket, RateExceeded
from tracking.access.book import KnownKey
from tracking.access.caller import Caller
from tracking.access.grants import EVERYTHING, NOTHING, Grant, Scope, scope_of
from tracking.access.permissions import PERMISSIONS_OF, READING_OF, Permission, Role
from tracking.errors import PermissionDenied

_NEEDS_NO_GRANT = {Permission.PUBLIC, Permission.SELF}
_OF_REGISTRY = {Permission.REGISTRY_READ, Permission.REGISTRY_WRITE}
_WRITES_OF_TRACKING = {Permission.TRACKING_WRITE, Permission.ARTIFACT_WRITE}


class NotPermitted(PermissionDenied):
    def __init__(self, name: str, permission: Permission) -> None:
        roles = [role.value for role in Role if permission in PERMISSIONS_OF[role]]
        of_role = f", and comes with the role {roles[0]}" if roles else ""
        super().__init__(f"{name} may not do this: it takes {permission.value}, which nobody has granted{of_role}.")


class NotForKey(PermissionDenied):
    pass


class Identity(msgspec.Struct, eq=False):
    """A name and what goes with it. Kept between requests, so that what follows from it is worked out once."""

    name: str
    grants: tuple[Grant, ...] = ()
    key: KnownKey | None = None
    """The scoring key that was shown, in whose case the name is the key's."""
    token_id: str | None = None
    secret_id: str = ""
    """Of the token or key that was shown; by which it is noted when it was used last."""
    expires_ms: int | None = None
    """Of that too."""
    is_session: bool = False
    bucket: Bucket | None = None
    """Of a key with a rate."""
    _callers: dict[Permission, Caller] = {}

    def caller(self, permission: Permission) -> Caller:
        """What *permission* lets this one do.

        Raises:
            NotPermitted: if it isn't granted for anything.
        """
        found = self._callers.get(permission)
        if found is None:
            found = self._callers[permission] = self._work_out(permission)
        return found

    def may_ask(self, endpoint: str, model: str) -> bool:
        """Whether this one may ask *endpoint*, which *model* answers, by the split; else it isn't there for them."""
        if self.key is None:
            return self._may(Permission.SCORE, model)
        return any(
            endpoint == name or (name[-1:] == "*" and endpoint.startswith(name[:-1])) for name in self.key.endpoints
        )

    def may_load_test(self, model: str) -> bool:
        """Whether this one's load tests of *model* count, and so ask for its versions by number, whatever gates say."""
        return self._may(Permission.LOAD_TEST_WRITE, model)

    def ensure_may_score(
        self, endpoint: str, model: str, *, arm: str | None, version: int | None, now_s: float
    ) -> None:
        """Look at a request for *endpoint*, which *model* answers, by the split or by the *arm* or *version* named.

        Raises:
            NotPermitted, NotForKey: if it isn't granted, in the same words whether the endpoint is there or not.
            RateExceeded: if the key has asked too often.
        """
        if not self.may_ask(endpoint, model):
            if self.key is None:
                raise NotPermitted(self.name, Permission.SCORE)
            raise NotForKey(f"The key {self.key.name!r} isn't for the endpoint {endpoint!r}.")
        self.ensure_may_say(model, arm=arm, version=version, now_s=now_s)

    def ensure_may_say(self, model: str, *, arm: str | None, version: int | None, now_s: float) -> None:
        """The same, for an endpoint that this one may ask.

        Raises:
            NotPermitted, NotForKey: if they say which arm or version answers, and may not.
            RateExceeded: as above.
        """
        key = self.key
        if key is None:
            is_said = arm is not None or version is not None
            if is_said and model not in self.caller(Permission.SCORE_FORCED).acting.models:
                raise NotPermitted(self.name, Permission.SCORE_FORCED)
            return
        if (arm is not None and not key.may_force) or (version is not None and not key.may_pin):
            what = "arm" if version is None else "version"
            raise NotForKey(f"The key {key.name!r} may not say which {what} answers.")
        if self.bucket is not None and (wait_s := self.bucket.take(now_s)):
            raise RateExceeded(key.name, self.bucket.rate, wait_s)

    def _may(self, permission: Permission, model: str) -> bool:
        try:
            return model in self.caller(permission).acting.models
        except NotPermitted:
            return False

    def _work_out(self, permission: Permission) -> Caller:
        if permission in _NEEDS_NO_GRANT:
            return Caller(self.name, NOTHING, NOTHING, self.grants)
        acting = scope_of(self.grants, permission)
        if not acting:
            raise NotPermitted(self.name, permission)
        return Caller(self.name, acting, self._reading(permission), self.grants)

    def _reading(self, permission: Permission) -> Scope:
        """What may be seen on a route that needs *permission*: of models and of experiments each by its own.

        A route of the registry looks at experiments too, where a version is made from a run.
        """
        if permission in _WRITES_OF_TRACKING:
            # Who may change an experiment and not read it is answered by it all the same, or could change nothing.
            return scope_of(self.grants, permission, READING_OF[permission])
        reading = scope_of(self.grants, READING_OF.get(permission, permission))
        if permission in _OF_REGISTRY:
            return Scope(reading.models, scope_of(self.grants, Permission.TRACKING_READ).experiments)
        return reading


class _Local(Identity):
    """Whoever reaches a server that asks nobody."""

    def may_ask(self, endpoint: str, model: str) -> bool:
        del endpoint, model
        return True

    def _work_out(self, permission: Permission) -> Caller:
        del permission
        return Caller(self.name, EVERYTHING, EVERYTHING, self.grants)


LOCAL = _Local("local", (Grant(Role.ADMIN.value), Grant(Role.SCORER.value)))

NOBODY = Identity("nobody")
"""Whoever has shown nothing, where callers must: there is nothing that they may."""

IDENTITY: ContextVar[Identity | None] = ContextVar("identity", default=None)
"""Who sent the request being answered; None if nobody has said."""


def current_identity() -> Identity:
    """Who sent the request being answered, behind a guard that let nobody else through."""
    identity = IDENTITY.get()
    if identity is None:
        raise NoCredentials
    return identity
