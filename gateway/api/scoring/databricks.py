"""Databricks' model serving: `/serving-endpoints/NAME/invocations`, and what its SDK asks of a host before that."""

import re
from urllib.parse import unquote

from litestar import get

from gateway.api.scoring.bodies import Bodies
from gateway.api.scoring.invocations import Headings, Invocation
from gateway.api.scoring.walk import Ask, Dialect, Headers, header_text, header_value
from gateway.auth import needs
from gateway.routing_table import Choice
from gateway.scoring.inference import Target
from tracking.access.permissions import Permission


class DatabricksScoring(Dialect):
    """MLflow's bodies under Databricks' path, and a header that says which model answered."""

    name = "databricks"
    roots = (b"serving-endpoints",)
    paths = re.compile(r"/serving-endpoints/(?P<endpoint>[^/]+)/invocations/?")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    def ask(self, path: re.Match[str], headers: Headers) -> Ask:
        arm, unit = header_text(headers, b"x-titlebout-arm"), header_text(headers, b"x-titlebout-unit")
        return Invocation(Target(unquote(path["endpoint"]), arm, None, unit), headers, self._bodies, says=_served_model)


def _served_model(choice: Choice) -> Headings:
    # As Databricks names a served entity that was given no name: the model and its version.
    return [(b"served-model-name", header_value(f"{choice.model}-{choice.version}"))]


@get("/.well-known/databricks-config", sync_to_thread=False, opt=needs(Permission.PUBLIC))
def get_databricks_config() -> dict[str, str]:
    """Nothing to add to what the caller configured; without an answer its SDK warns that it found no host."""
    return {}


handlers = [get_databricks_config]
