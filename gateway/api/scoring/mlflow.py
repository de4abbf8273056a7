"""MLflow's scoring protocol: `/invocations` and `/endpoints/NAME/invocations`."""

import re
from urllib.parse import unquote

from gateway.api.scoring.bodies import Bodies
from gateway.api.scoring.invocations import Invocation
from gateway.api.scoring.walk import Ask, Dialect, Headers, header_text, version_number
from gateway.scoring.inference import Target
from registry.entities import CHAMPION
from registry.uri import parse_model_uri

_LOAD_TEST = b"x-titlebout-load-test"


class MlflowScoring(Dialect):
    """What `mlflow models serve` answers, for many models."""

    name = "mlflow"
    roots = (b"endpoints", b"invocations")
    paths = re.compile(r"/(?:endpoints/(?P<endpoint>[^/]+)/(?:versions/(?P<version>[^/]+)/)?)?invocations/?")

    def __init__(self, default_model: str, bodies: Bodies) -> None:
        """*default_model* is what bare ``/invocations`` serves; empty means the only endpoint there is."""
        self._default = _default_target(default_model)
        self._bodies = bodies

    def ask(self, path: re.Match[str], headers: Headers) -> Ask:
        arm, unit = header_text(headers, b"x-titlebout-arm"), header_text(headers, b"x-titlebout-unit")
        if path["endpoint"] is None:
            default = self._default
            target = Target(default.endpoint, arm or default.arm, default.version, unit)
        else:
            # Decoded once, and only here: a name may hold a quoted slash or an @.
            version = version_number(path["version"])
            is_load_test = version is not None and _LOAD_TEST in headers
            target = Target(unquote(path["endpoint"]), arm, version, unit, is_load_test)
        return Invocation(target, headers, self._bodies)


def _default_target(model: str) -> Target:
    """What bare ``/invocations`` serves: an endpoint, split and all, for a name or its champion; else one arm."""
    if not model:
        return Target(None)
    reference = parse_model_uri(model)
    if reference.version is not None:
        return Target(reference.name, version=reference.version)
    alias = reference.alias
    return Target(reference.name, None if alias in {None, CHAMPION} else alias)
