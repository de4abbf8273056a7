"""What a route may ask of its caller, and the roles that people are given."""

from enum import StrEnum


class Permission(StrEnum):
    """What a route lets its caller do."""

    PUBLIC = "public"
    """Liveness, readiness, versions: nothing that belongs to anybody."""
    SELF = "self"
    """One's own name and tokens: whoever has signed in."""
    OBSERVE = "observe"
    """Metrics and the state of the deployment."""
    SCORE = "score"
    SCORE_FORCED = "score:forced"
    """Say which arm or version answers, past the split."""
    TRACKING_READ = "tracking:read"
    TRACKING_WRITE = "tracking:write"
    ARTIFACT_READ = "artifact:read"
    ARTIFACT_WRITE = "artifact:write"
    REGISTRY_READ = "registry:read"
    REGISTRY_WRITE = "registry:write"
    WEBHOOK_READ = "webhook:read"
    WEBHOOK_WRITE = "webhook:write"
    ALIAS_WRITE = "alias:write"
    SPLIT_WRITE = "split:write"
    GATE_WRITE = "gate:write"
    """Change what must hold before an alias moves."""
    GATE_OVERRIDE = "gate:override"
    """Move an alias, or a share, though a gate isn't met; with a reason, which is kept."""
    VERSION_APPROVE = "version:approve"
    """Vouch for versions that others have registered, where a gate asks for it."""
    LOAD_TEST_WRITE = "load_test:write"
    """Keep the report of a load test beside a version, which a gate may ask for."""
    ACCESS_READ = "access:read"
    ACCESS_WRITE = "access:write"
    """Give others access, up to one's own."""


class Role(StrEnum):
    """Bundles of permissions, as `PERMISSIONS_OF` has them."""

    VIEWER = "viewer"
    SCORER = "scorer"
    PUBLISHER = "publisher"
    PROMOTER = "promoter"
    ADMIN = "admin"


_VIEWING = frozenset({Permission.OBSERVE, Permission.TRACKING_READ, Permission.ARTIFACT_READ, Permission.REGISTRY_READ})

PERMISSIONS_OF: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWING,
    Role.SCORER: frozenset({Permission.SCORE}),
    Role.PUBLISHER: _VIEWING | {Permission.TRACKING_WRITE, Permission.ARTIFACT_WRITE, Permission.REGISTRY_WRITE},
    Role.PROMOTER: _VIEWING
    | {Permission.ALIAS_WRITE, Permission.SPLIT_WRITE, Permission.SCORE_FORCED, Permission.VERSION_APPROVE}
    # Not a publisher's: no gate should be passed by the word of whoever made the model.
    | {Permission.LOAD_TEST_WRITE},
    Role.ADMIN: frozenset(Permission) - {Permission.PUBLIC, Permission.SELF},
}
"""What a role may do, within what it is granted for. `PUBLIC` and `SELF` need no grant."""

READING_OF: dict[Permission, Permission] = {
    Permission.TRACKING_WRITE: Permission.TRACKING_READ,
    Permission.ARTIFACT_WRITE: Permission.ARTIFACT_READ,
    Permission.REGISTRY_WRITE: Permission.REGISTRY_READ,
    Permission.ALIAS_WRITE: Permission.REGISTRY_READ,
    Permission.SPLIT_WRITE: Permission.REGISTRY_READ,
    Permission.GATE_WRITE: Permission.REGISTRY_READ,
    Permission.GATE_OVERRIDE: Permission.REGISTRY_READ,
    Permission.VERSION_APPROVE: Permission.REGISTRY_READ,
    Permission.LOAD_TEST_WRITE: Permission.REGISTRY_READ,
    Permission.WEBHOOK_WRITE: Permission.WEBHOOK_READ,
    Permission.ACCESS_WRITE: Permission.ACCESS_READ,
}
"""The permission by which one learns that the thing is there which the other one changes."""
