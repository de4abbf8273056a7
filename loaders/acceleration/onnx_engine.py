"""ONNX Runtime as an engine."""

import numpy as np
import onnxruntime

_ERRORS_ONLY = 3


class OnnxEngine:
    """One session. Its calls may come from several threads."""

    def __init__(self, content: bytes, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle threads that wait by spinning would take the processor from other models and from the HTTP workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._outputs = [self._session.get_outputs()[0].name]

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        result: np.ndarray = self._session.run(self._outputs, {"X": matrix})[0]
        return result
