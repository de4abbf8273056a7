"""Errors in the words of AWS, and whose request is whose on a path that two protocols share."""

import msgspec
import pytest

from gateway.api.scoring.bodies import Bodies
from gateway.api.scoring.sagemaker import SageMakerScoring
from gateway.routing_table import Choice

DIALECT = SageMakerScoring(Bodies(None, 1))  # No body is read here.
CHOICE = Choice("iris", "iris", 1, "champion", 1)


@pytest.mark.parametrize(
    ("status", "choice", "type_", "answered"),
    [
        (400, None, "ValidationError", 400),
        (404, None, "ValidationError", 404),
        (413, None, "ValidationError", 413),
        (503, None, "ServiceUnavailable", 503),
        (500, None, "InternalFailure", 500),
        (400, CHOICE, "ModelError", 424),
        (500, CHOICE, "ModelError", 424),
        (504, CHOICE, "ModelError", 424),
        (429, CHOICE, "ThrottlingException", 429),
        (503, CHOICE, "ServiceUnavailable", 503),
    ],
)
def test_a_fault_has_the_type_that_aws_gives_it(status, choice, type_, answered):
    given, reply = DIALECT.refuse(status, "ANY", "words", choice)
    assert given == answered
    assert dict(reply.headers) == {b"x-amzn-errortype": type_.encode()}
    body = msgspec.json.decode(reply.content)
    assert body["Message"] == "words"
    assert ("OriginalStatusCode" in body) == (type_ == "ModelError")


@pytest.mark.parametrize(
    ("headers", "speaks"),
    [
        ([(b"content-type", b"application/json")], False),
        ([(b"authorization", b"Bearer x"), (b"x-titlebout-arm", b"champion")], False),
        ([(b"x-amzn-sagemaker-session-id", b"s")], True),
        ([(b"amz-sdk-invocation-id", b"i")], True),
        ([(b"x-amz-date", b"20261123T000000Z")], True),
    ],
)
def test_a_request_is_sagemakers_by_its_headers(headers, speaks):
    assert DIALECT.speaks(headers) is speaks


def test_sagemakers_headers_count_before_ours():
    path = DIALECT.paths.fullmatch("/endpoints/iris%40x/invocations")
    ours = {b"x-titlebout-arm": b"a", b"x-titlebout-unit": b"b", b"content-type": b"application/json"}
    target = DIALECT.ask(path, ours).target
    assert (target.endpoint, target.arm, target.unit) == ("iris@x", "a", "b")
    theirs = {b"x-amzn-sagemaker-target-variant": b"c", b"x-amzn-sagemaker-session-id": b"d"}
    target = DIALECT.ask(path, {**ours, **theirs}).target
    assert (target.arm, target.unit) == ("c", "d")
