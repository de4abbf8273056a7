"""Tensors as the Open Inference Protocol v2 writes them, in JSON and in its binary extension.

https://github.com/kserve/open-inference-protocol. Binary tensors follow the JSON of a body, one after the other:
little-endian, row by row; a BYTES element is its length in four bytes and then itself.
"""

import math
import struct
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType

from loaders import conversion
from loaders.casts import cast, iso_texts
from loaders.errors import BadInput, shown
from loaders.tensors import flattened
from tracking.errors import BadRequest

Parameters = dict[str, Any]
# Bounded, because errors repeat it.
Name = Annotated[str, Meta(max_length=1_000)]

BYTES = "BYTES"
_DTYPES = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_DATATYPES = {dtype: datatype for datatype, dtype in _DTYPES.items()}
# More than any body holds; what is over it couldn't even be asked for as an empty array.
_ELEMENTS_MAX = 2**31 - 1
_AXES_MAX = 32
_LENGTH = struct.Struct("<I")


class _Told(msgspec.Struct):
    """What may have parameters. Clients that write each field they know send null for those they don't use."""

    parameters: Parameters | None = None

    def parameter(self, name: str) -> Any:
        """The parameter *name*; None if it wasn't said."""
        return None if self.parameters is None else self.parameters.get(name)


class InputTensor(_Told, kw_only=True):
    name: Name
    shape: list[Annotated[int, Meta(ge=0)]]
    datatype: str
    data: Any = None

    def __str__(self) -> str:
        return f"Input {self.name!r} ({self.datatype})"


class RequestedOutput(_Told, kw_only=True):
    name: Name


class InferRequest(_Told, kw_only=True):
    inputs: Annotated[list[InputTensor], Meta(min_length=1)]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None


class OutputTensor(msgspec.Struct, omit_defaults=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Parameters = {}
    data: list[Any] | UnsetType = UNSET


class InferResponse(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str | None = None


_decode_request = msgspec.json.Decoder(InferRequest).decode


# --- what comes in


def read_request(body: bytes, json_bytes: int | None) -> tuple[InferRequest, dict[str, np.ndarray]]:
    """The request, and its input tensors by name, which share memory with *body* where they came in binary.

    *json_bytes* is how much of the body is JSON; None where all of it is.

    Raises:
        BadRequest: if the JSON can't be read as a request.
        BadInput: if a tensor isn't as it says, or the sizes don't add up to the body.
    """
    head = memoryview(body)
    if json_bytes is not None:
        if json_bytes > len(body):
            raise BadRequest(f"Inference-Header-Content-Length says {json_bytes}, the body has {len(body)} bytes.")
        head = head[:json_bytes]
    request = _read_json(head)
    binary = memoryview(body)[len(head) :]
    arrays: dict[str, np.ndarray] = {}
    offset = 0
    for tensor in request.inputs:
        if tensor.name in arrays:
            raise BadInput(f"Input {tensor.name!r} is there twice.")
        size = _binary_size(tensor)
        arrays[tensor.name] = _read_tensor(tensor, None if size is None else binary[offset : offset + size])
        offset += size or 0
    if offset != len(binary):
        raise BadInput(f"The inputs' binary_data_size add up to {offset}; {len(binary)} bytes follow the JSON.")
    return request, arrays


def _read_json(head: memoryview) -> InferRequest:
    try:
        return _decode_request(head)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The request isn't as it must be: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from error
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply to be an input.") from error


def _binary_size(tensor: InputTensor) -> int | None:
    size = tensor.parameter("binary_data_size")
    if tensor.parameter("shared_memory_region") is not None:
        raise BadInput(f"{tensor}: shared memory isn't taken here; send the data.")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise BadInput(f"{tensor}: expected binary_data_size to be a number of bytes, got {shown(size)}.")
    if tensor.data is not None:
        raise BadInput(f"{tensor} has both data and binary_data_size.")
    return size


def _read_tensor(tensor: InputTensor, binary: memoryview | None) -> np.ndarray:
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is None and tensor.datatype != BYTES:
        known = ", ".join([*_DTYPES, BYTES])
        raise BadInput(f"Input {tensor.name!r}: expected one of {known} as datatype, got {shown(tensor.datatype)}.")
    count = _elements(tensor)
    if binary is None:
        array = _from_json(tensor, dtype, count)
    elif dtype is None:
        array = _from_elements(tensor, binary, count)
    else:
        array = _from_raw(tensor, dtype, binary, count)
    return array.reshape(tensor.shape)


def _elements(tensor: InputTensor) -> int:
    if not 1 <= len(tensor.shape) <= _AXES_MAX:
        raise BadInput(f"{tensor}: expected 1 to {_AXES_MAX} axes, got {len(tensor.shape)}.")
    # By the axes that aren't empty too: an array of no rows still has a width.
    if math.prod(side or 1 for side in tensor.shape) > _ELEMENTS_MAX:
        raise BadInput(f"{tensor}: shape {tensor.shape} is over {_ELEMENTS_MAX} elements.")
    return math.prod(tensor.shape)


def _from_json(tensor: InputTensor, dtype: np.dtype | None, count: int) -> np.ndarray:
    if not isinstance(tensor.data, list):
        raise BadInput(f"{tensor}: expected data, a list of values, or binary_data_size; got {shown(tensor.data)}.")
    shape, values = flattened(str(tensor), tensor.data)
    if len(shape) > 1 and list(shape) != tensor.shape:
        raise BadInput(f"{tensor}: shape is {tensor.shape}, but data is nested as {list(shape)}.")
    if len(values) != count:
        raise BadInput(f"{tensor}: shape {tensor.shape} is of {count} values, got {len(values)}.")
    try:
        if dtype is not None:
            return conversion.converted(values, dtype)
        return _read_texts(tensor, values)
    except conversion.Misfit as misfit:
        raise BadInput(
            f"{tensor}, value {misfit.index}: expected {misfit.expected}, got {shown(misfit.value)}."
        ) from misfit


def _read_texts(tensor: InputTensor, values: Sequence[Any]) -> np.ndarray:
    """Strings, or what MLServer's `content_type` says that they hold."""
    texts = conversion.strings(values)
    match tensor.parameter("content_type"):
        case "base64":
            return conversion.binaries(values)
        case "pd_json":
            return _read_documents(texts)
        case _:
            return texts


def _read_documents(texts: np.ndarray) -> np.ndarray:
    documents = []
    for index, text in enumerate(texts.tolist()):
        try:
            documents.append(None if text is None else msgspec.json.decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise conversion.Misfit(index, "JSON", text) from error
    return conversion.objects(documents)


def _from_raw(tensor: InputTensor, dtype: np.dtype, binary: memoryview, count: int) -> np.ndarray:
    if len(binary) != count * dtype.itemsize:
        raise BadInput(f"{tensor}: shape {tensor.shape} is of {count * dtype.itemsize} bytes, got {len(binary)}.")
    array = np.frombuffer(binary, dtype) if count else np.empty(0, dtype)
    if dtype.kind == "b" and count and array.view(np.uint8).max() > 1:
        raise BadInput(f"{tensor}: expected bytes that are 0 or 1.")
    return array


def _from_elements(tensor: InputTensor, binary: memoryview, count: int) -> np.ndarray:
    data, offset = bytes(binary), 0
    values: list[bytes] = []
    while offset < len(data) and len(values) < count:
        begin = offset + _LENGTH.size
        if begin > len(data) or (offset := begin + _LENGTH.unpack_from(data, offset)[0]) > len(data):
            raise BadInput(f"{tensor}: element {len(values)} ends after the tensor.")
        values.append(data[begin:offset])
    if offset != len(data) or len(values) != count:
        raise BadInput(f"{tensor}: shape {tensor.shape} is of {count} elements, binary_data_size of others.")
    array = conversion.objects(values)
    return _read_documents(_as_texts(tensor, array)) if tensor.parameter("content_type") == "pd_json" else array


def _as_texts(tensor: InputTensor, array: np.ndarray) -> np.ndarray:
    try:
        return cast(array, np.dtype(np.str_))
    except conversion.Misfit as misfit:
        raise BadInput(f"{tensor}, value {misfit.index}: expected {misfit.expected}.") from misfit


# --- what goes out


def datatype_of(dtype: np.dtype) -> str:
    """The protocol's name; times are texts, as is all that isn't a number."""
    return _DATATYPES.get(dtype.newbyteorder("<"), BYTES)


def encode_tensor(name: str, array: np.ndarray, *, binary: bool) -> tuple[OutputTensor, bytes]:
    """A tensor of an answer, and its bytes; none where its data is in the JSON."""
    array = _representable(array)
    datatype = datatype_of(array.dtype)
    tensor = OutputTensor(name, datatype, array.shape)
    flat = array.reshape(-1)
    if binary:
        data = _join_elements(flat) if datatype == BYTES else flat.astype(_DTYPES[datatype], copy=False).tobytes()
        tensor.parameters = {"binary_data_size": len(data)}
        return tensor, data
    values = flat.tolist()
    if datatype == BYTES and any(isinstance(value, bytes) for value in values):
        # JSON holds no bytes: base64, which is how MLServer says it and how msgspec writes them.
        tensor.parameters = {"content_type": "base64"}
    tensor.data = values
    return tensor, b""


def encode_response(response: InferResponse, data: Sequence[bytes]) -> tuple[bytes, int | None]:
    """The body, and how much of it is JSON where bytes follow."""
    head = msgspec.json.encode(response)
    if all(tensor.data is not UNSET for tensor in response.outputs):
        return head, None
    return b"".join([head, *data]), len(head)


def _representable(array: np.ndarray) -> np.ndarray:
    """*array* with only what the protocol has a datatype for."""
    match array.dtype.kind:
        case "f" if array.dtype.itemsize > 8:
            return array.astype(np.float64)
        case "M":
            return iso_texts(array)
        case "m":
            return array.astype(np.int64)
        case "O" if not {type(value) for value in array.flat} <= {str, bytes, type(None)}:
            # Lists, objects, or values of several types: each as the JSON it is.
            return conversion.objects([_as_text(value) for value in array.flat]).reshape(array.shape)
    return array


def _as_text(value: Any) -> str | bytes | None:
    return value if isinstance(value, str | bytes | None) else msgspec.json.encode(value).decode()


def _join_elements(flat: np.ndarray) -> bytes:
    parts: list[bytes] = []
    for value in flat.tolist():
        # There is no null among bytes: a missing text is an empty one.
        element = value.encode(errors="surrogatepass") if isinstance(value, str) else value or b""
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)
