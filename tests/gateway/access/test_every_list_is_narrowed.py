"""A route that reads what grants are for is asked by one of the two tests of what grants hide, or it isn't finished."""

from gateway.app import _PROTOCOLS
from gateway.auth import permission_of
from tests.gateway.access import test_registry_scopes as of_models
from tests.gateway.access import test_tracking_scopes as of_experiments
from tracking.access.permissions import Permission

READS = {
    Permission.OBSERVE,
    Permission.TRACKING_READ,
    Permission.ARTIFACT_READ,
    Permission.REGISTRY_READ,
    Permission.WEBHOOK_READ,
    Permission.ACCESS_READ,
}


def test_every_route_that_reads_is_asked_for_what_is_not_granted():
    routes = {
        path
        for protocol in _PROTOCOLS
        for handler in protocol.handlers
        if permission_of(handler) in READS
        for path in handler.paths
        # Answered by the functions of the path without it.
        if not path.startswith("/ajax-api/")
    }
    asked = {key.removeprefix("GET ") for key in (*of_models.READING, *of_experiments.READING)}
    assert routes - asked == set()
