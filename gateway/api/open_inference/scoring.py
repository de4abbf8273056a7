"""Open Inference Protocol v2: `/v2/models/NAME[/versions/V]/infer`, as Triton, MLServer and KServe speak it.

What else the protocol has (metadata, readiness, repository, statistics) is in `models`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
import numpy as np

from gateway.api.open_inference.names import output_name
from gateway.api.open_inference.wire import (
    InferRequest,
    InferResponse,
    RequestedOutput,
    encode_response,
    encode_tensor,
    read_request,
)
from gateway.api.request_body import decompressed
from gateway.api.scoring.walk import JSON_TYPE, Ask, Dialect, Headers, Reply, header_text, version_number
from gateway.scoring.inference import Prediction, ReadInput, Target
from loaders import conversion
from loaders.base import Form, JsonAnswer
from loaders.errors import BadInput
from loaders.payload import Arrays, Data
from tracking.errors import BadRequest

_BINARY_TYPE = "application/octet-stream"
_NAMES_SAID_MAX = 20
_HEADER_LENGTH = b"inference-header-content-length"
# Triton's own, which mean nothing to a model. All others are params, as the signature knows them.
_RESERVED = frozenset({"sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output"})


_read_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode


class OpenInference(Dialect):
    name = "open_inference"
    roots = (b"v2",)
    paths = re.compile(r"/v2/models/(?P<endpoint>[^/]+)/(?:versions/(?P<version>[^/]+)/)?infer/?")

    def __init__(self, body_bytes_max: int) -> None:
        """*body_bytes_max* bounds a compressed body once it is decompressed."""
        self._body_bytes_max = body_bytes_max

    def ask(self, path: re.Match[str], headers: Headers) -> Ask:
        arm, unit = header_text(headers, b"x-titlebout-arm"), header_text(headers, b"x-titlebout-unit")
        # Decoded once, and only here: clients quote the @ of a name, and a slash within one.
        target = Target(unquote(path["endpoint"]), arm, version_number(path["version"]), unit)
        return _Infer(target, headers, self._body_bytes_max)

    def encode_error(self, code: str, message: str) -> bytes:  # noqa: ARG002  (the protocol has no codes)
        return msgspec.json.encode({"error": message})


class _Infer(Ask):
    def __init__(self, target: Target, headers: Headers, body_bytes_max: int) -> None:
        self.target = target
        self._json_bytes = _json_bytes(headers)
        self._encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        self._body_bytes_max = body_bytes_max
        self._request = InferRequest(inputs=[])

    def read(self, body: bytes) -> ReadInput:
        def read_input() -> tuple[Data, Mapping[str, Any]]:
            plain = decompressed(body, self._encoding, self._body_bytes_max)
            self._request, arrays = read_request(plain, self._json_bytes)
            for output in self._request.outputs or ():
                _check_output(output)
            # One tensor is what the model takes, whatever its name, where no signature says how it is called.
            form = Form.TENSOR if len(arrays) == 1 else Form.TENSORS
            told = self._request.parameters or {}
            params = {name: value for name, value in told.items() if name not in _RESERVED}
            return Arrays(arrays, form, text_is_bytes=True), params

        return read_input

    def reply(self, prediction: Prediction) -> Reply:
        tensors = [encode_tensor(name, array, binary=binary) for name, array, binary in self._wanted(prediction)]
        choice, request_id = prediction.choice, self._request.id
        outputs = [tensor for tensor, _ in tensors]
        response = InferResponse(choice.endpoint, str(choice.version), outputs, request_id)
        content, json_bytes = encode_response(response, [data for _, data in tensors])
        if json_bytes is None:
            return Reply(content, JSON_TYPE)
        return Reply(content, _BINARY_TYPE, [(_HEADER_LENGTH, str(json_bytes).encode())])

    def _wanted(self, prediction: Prediction) -> Iterator[tuple[str, np.ndarray, bool]]:
        """The outputs that were asked for, all where none was: name, array, and whether its data goes in binary."""
        given = _outputs(prediction)
        all_binary = self._request.parameter("binary_data_output") is True
        for output in self._request.outputs or [RequestedOutput(name=name) for name in given]:
            if output.name not in given:
                known = ", ".join(list(given)[:_NAMES_SAID_MAX])
                raise BadInput(f"The model has no output {output.name!r}; its outputs are: {known}.")
            binary = output.parameter("binary_data")
            yield output.name, given[output.name], all_binary if binary is None else binary is True


def _json_bytes(headers: Headers) -> int | None:
    value = headers.get(_HEADER_LENGTH)
    if value is None:
        return None
    if not value.isdigit() or len(value) > 15:
        raise BadRequest("Inference-Header-Content-Length must be a number of bytes.")
    return int(value)


def _check_output(output: RequestedOutput) -> None:
    if output.parameter("classification") is not None:
        raise BadInput(f"Output {output.name!r}: classification isn't done here; ask for the tensor.")
    if output.parameter("shared_memory_region") is not None:
        raise BadInput(f"Output {output.name!r}: shared memory isn't written here; take the data.")


def _outputs(prediction: Prediction) -> dict[str, np.ndarray]:
    answer = prediction.answer
    if isinstance(answer, JsonAnswer):
        # What has no array form is JSON texts, one a row.
        rows = _read_rows(answer.text) if answer.text.startswith(b"[") else [answer.text]
        texts = [bytes(row).decode() for row in rows]
        return {output_name(prediction.signature): conversion.objects(texts)}
    if answer.form is Form.TENSOR:
        return {output_name(prediction.signature): answer.columns[""]}
    return dict(answer.columns)
