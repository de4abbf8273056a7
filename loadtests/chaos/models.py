"""Models that try a server's patience. Classes of functions, so that they are pickled by value."""

from collections.abc import Callable
from typing import Any

from mlflow.pyfunc.model import PythonModel

BUSY_S = 0.007
"""Processor time of one predict of the busy model."""

UNLOADABLE = ("raises", "hangs", "crashes", "eats memory", "fails its warm-up")


def busy(answer: int) -> PythonModel:
    """Answers *answer*, after work of a fixed size: as much as takes `BUSY_S` when it loads."""
    work_s = BUSY_S

    class Busy(PythonModel):
        def load_context(self, context: Any) -> None:  # noqa: ARG002
            import time  # noqa: PLC0415

            # Of the processor's time and not of the clock's, so that neighbours can't make it any smaller.
            self.steps, began_s = 0, time.thread_time()
            while time.thread_time() - began_s < 0.5:
                self.work(1_000)
                self.steps += 1_000
            self.steps = int(self.steps * work_s / (time.thread_time() - began_s))

        @staticmethod
        def work(steps: int) -> int:
            total = 0
            for number in range(steps):
                total += number * number
            return total

        def predict(self, context: Any, model_input: Any, params: Any = None) -> list[int]:  # noqa: ARG002
            self.work(self.steps)
            return [answer] * len(model_input)

    return Busy()


def steady(steps: int) -> PythonModel:
    """Takes so many steps for each row, so that a request costs what it costs, whatever it is batched with."""

    class Steady(PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> list[int]:  # noqa: ARG002
            total = 0
            for number in range(steps * len(model_input)):
                total += number * number
            return [steps] * len(model_input)

    return Steady()


def waiting(milliseconds: int) -> PythonModel:
    """Takes so long by the clock, and no processor: as one does whose work is done elsewhere."""

    class Waiting(PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> list[int]:  # noqa: ARG002
            import time  # noqa: PLC0415

            time.sleep(milliseconds / 1000)
            return [milliseconds] * len(model_input)

    return Waiting()


def obedient() -> PythonModel:
    """Does what its input says, and answers "fine" if it still can."""

    class Obedient(PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> list[str]:  # noqa: ARG002
            import ctypes  # noqa: PLC0415
            import os  # noqa: PLC0415
            import time  # noqa: PLC0415

            import numpy as np  # noqa: PLC0415

            for wish in np.asarray(model_input).ravel():
                match wish:
                    case "raise":
                        raise RuntimeError("as it was told to")
                    case "hang":
                        time.sleep(600)
                    case "exit":
                        os._exit(3)
                    case "crash":
                        ctypes.string_at(0)
                    case "leak":
                        self.__dict__.setdefault("leaked", []).append(b"\1" * (50 << 20))
            return ["fine"] * len(model_input)

    return Obedient()


def unloadable(fault: str) -> PythonModel:
    """One of `UNLOADABLE`."""

    class Unloadable(PythonModel):
        def load_context(self, context: Any) -> None:  # noqa: ARG002
            import ctypes  # noqa: PLC0415
            import time  # noqa: PLC0415

            match fault:
                case "raises":
                    raise RuntimeError("no such feature")
                case "hangs":
                    time.sleep(600)
                case "crashes":
                    ctypes.string_at(0)
                case "eats memory":
                    eaten = []
                    while True:
                        eaten.append(b"\1" * (20 << 20))
                        time.sleep(0.02)

        def predict(self, context: Any, model_input: Any, params: Any = None) -> list[str]:  # noqa: ARG002
            if fault == "fails its warm-up":
                raise ValueError("still cold")
            return ["fine"] * len(model_input)

    return Unloadable()


def waking(seconds: int) -> PythonModel:
    """Takes so long to load."""

    class Waking(PythonModel):
        def load_context(self, context: Any) -> None:  # noqa: ARG002
            import time  # noqa: PLC0415

            time.sleep(seconds)

        def predict(self, context: Any, model_input: Any, params: Any = None) -> list[str]:  # noqa: ARG002
            return ["awake"] * len(model_input)

    return Waking()


def heavy(mebibytes: int) -> PythonModel:
    """Its weights take so much, on disk and in memory."""

    class Heavy(PythonModel):
        def __init__(self) -> None:
            import numpy as np  # noqa: PLC0415

            self.weights = [np.random.default_rng(number).random(2**17) for number in range(mebibytes)]

        def predict(self, context: Any, model_input: Any, params: Any = None) -> list[float]:  # noqa: ARG002
            return [float(self.weights[0][0])] * len(model_input)

    return Heavy()


KINDS: dict[str, Callable[[str], PythonModel]] = {
    "busy": lambda word: busy(int(word)),
    "steady": lambda word: steady(int(word)),
    "waiting": lambda word: waiting(int(word)),
    "obedient": lambda _: obedient(),
    "unloadable": unloadable,
    "waking": lambda word: waking(int(word)),
    "heavy": lambda word: heavy(int(word)),
}
"""What `loadtests.chaos.training` can register, by what it is called there; the word after the colon is handed on."""
