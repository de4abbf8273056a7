"""Work that is tried in a fork of the test's process, because it can't be undone."""

import json
import os


def in_child(work):
    """What *work* gives in a fork of this process, or the name of the error that it raises."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = work()
        except BaseException as error:
            result = type(error).__name__
        try:
            os.write(writing, json.dumps(result).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(said)
