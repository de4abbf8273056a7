"""Calls of the real ``tritonclient[http]``, run in its own environment: a JSON list comes in, one of results goes out.

A call is ``[METHOD, {ARGUMENTS}]``. Those of `infer` have their inputs as ``{NAME: [DATATYPE, VALUES]}``.
"""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype


def infer(client, *, model, inputs, binary=True, outputs=(), **options):
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in outputs]
    tensors = [tensor(name, datatype, values, binary) for name, (datatype, values) in inputs.items()]
    result = client.infer(model, tensors, outputs=wanted or None, **options)
    response = result.get_response()
    arrays = {output["name"]: result.as_numpy(output["name"]) for output in response["outputs"]}
    return {**response, "outputs": response["outputs"], "values": {name: listed(arrays[name]) for name in arrays}}


def tensor(name, datatype, values, binary):
    array = np.array(values, dtype=triton_to_np_dtype(datatype))
    if datatype == "BYTES":
        array = np.vectorize(str.encode, otypes=[object])(array)
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def listed(array):
    if array.dtype.kind == "O":
        array = np.vectorize(lambda value: value.decode() if isinstance(value, bytes) else value, otypes=[object])(
            array
        )
    return array.tolist()


def result_of(client, method, arguments):
    try:
        if method == "infer":
            return infer(client, **arguments)
        return getattr(client, method)(**arguments)
    except InferenceServerException as error:
        return {"status": error.status(), "error": error.message()}


if __name__ == "__main__":
    with triton.InferenceServerClient(sys.argv[1]) as client:
        print(json.dumps([result_of(client, method, arguments) for method, arguments in json.load(sys.stdin)]))
