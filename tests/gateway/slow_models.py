"""Models whose load is the interesting part. Classes of functions, so that they are pickled by value."""

from tests.training import mlflow


def loads_slowly(answer: int, seconds: float):
    """Answers *answer* to each row, once it has loaded."""

    class LoadsSlowly(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            import time

            time.sleep(seconds)

        def predict(self, context, model_input, params=None):
            return [answer] * len(model_input)

    return LoadsSlowly()


def comes_slowly(answer: int, seconds: float):
    """The same, whose warm-up takes as long as its load."""

    class ComesSlowly(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            import time

            time.sleep(seconds)
            self.is_warm = False

        def predict(self, context, model_input, params=None):
            import time

            if not self.is_warm:
                time.sleep(seconds)
                self.is_warm = True
            return [answer] * len(model_input)

    return ComesSlowly()


def fails_to_load(said: str):
    class FailsToLoad(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            raise RuntimeError(said)

        def predict(self, context, model_input, params=None):
            return []

    return FailsToLoad()


def takes_memory(answer: int, mebibytes: int):
    """Answers *answer*, and holds *mebibytes* that its files say nothing of."""

    class TakesMemory(mlflow.pyfunc.PythonModel):
        def load_context(self, context):
            self.ballast = bytearray(b"\1") * (mebibytes << 20)

        def predict(self, context, model_input, params=None):
            return [answer] * len(model_input)

    return TakesMemory()


def answers_slowly(seconds: float):
    class AnswersSlowly(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import time

            time.sleep(seconds)
            return [0] * len(model_input)

    return AnswersSlowly()
