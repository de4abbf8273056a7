"""SageMaker's runtime: MLflow's path and bodies, with names and errors in the words of AWS.

`/endpoints/NAME/invocations` is MLflow's path too, and MLflow's callers get MLflow's errors there. A request is
SageMaker's if it has a header that only an AWS client sends, or one of SageMaker's own. Input, output and errors are
those of `InvokeEndpoint` in the service model of ``sagemaker-runtime`` (2017-05-13).
"""

import re
from operator import itemgetter
from urllib.parse import unquote

import msgspec

from gateway.api.scoring.bodies import Bodies
from gateway.api.scoring.invocations import Headings, Invocation
from gateway.api.scoring.walk import Ask, Dialect, Headers, RawHeaders, Reply, header_text, header_value
from gateway.routing_table import Choice
from gateway.scoring.inference import Target

_VARIANT = b"x-amzn-sagemaker-target-variant"
_SESSION = b"x-amzn-sagemaker-session-id"
_INFERENCE_ID = b"x-amzn-sagemaker-inference-id"
# The last is sent with every call of an AWS SDK, signed or not.
_TELLING = frozenset({_VARIANT, _SESSION, _INFERENCE_ID, b"x-amz-date", b"amz-sdk-invocation-id"})
_NAME = itemgetter(0)

_MODEL_ERROR = "ModelError"
_MODEL_ERROR_STATUS = 424
_TRY_AGAIN = {429, 503}
_ERROR_TYPES = {
    429: "ThrottlingException",
    500: "InternalFailure",
    503: "ServiceUnavailable",
}


class SageMakerScoring(Dialect):
    """What `boto3.client("sagemaker-runtime")` speaks: a variant is an arm, a session is a unit."""

    name = "sagemaker"
    roots = (b"endpoints",)
    paths = re.compile(r"/endpoints/(?P<endpoint>[^/]+)/invocations/?")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    def speaks(self, headers: RawHeaders, /) -> bool:
        return not _TELLING.isdisjoint(map(_NAME, headers))

    def ask(self, path: re.Match[str], headers: Headers) -> Ask:
        arm = header_text(headers, _VARIANT) or header_text(headers, b"x-titlebout-arm")
        unit = header_text(headers, _SESSION) or header_text(headers, b"x-titlebout-unit")
        target = Target(unquote(path["endpoint"]), arm, None, unit)
        inference_id = headers.get(_INFERENCE_ID)

        def says(choice: Choice) -> Headings:
            said = [(b"x-amzn-invoked-production-variant", header_value(choice.arm))]
            return said if inference_id is None else [*said, (_INFERENCE_ID, inference_id)]

        return Invocation(target, headers, self._bodies, says=says)

    def refuse(self, status: int, _code: str, message: str, choice: Choice | None, /) -> tuple[int, Reply]:
        """What went wrong with the model or with what was sent to it is a ModelError, as from a model's container."""
        if choice is not None and status not in _TRY_AGAIN:
            body: dict[str, str | int] = {"Message": message, "OriginalMessage": message, "OriginalStatusCode": status}
            return _MODEL_ERROR_STATUS, _error(_MODEL_ERROR, body)
        return status, _error(_ERROR_TYPES.get(status, "ValidationError"), {"Message": message})


def _error(type_: str, body: dict[str, str | int]) -> Reply:
    return Reply(msgspec.json.encode(body), headers=[(b"x-amzn-errortype", type_.encode())])
