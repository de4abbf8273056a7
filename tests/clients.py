"""Real clients of other servers' protocols, each in an environment of its own, since their pins aren't ours."""

import fcntl
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def client_python(name: str) -> Path:
    """The Python in which client *name* is installed; ``make NAME-client`` makes it where it is missing."""
    folder = ROOT / f".venv-{name}"
    with Path(tempfile.gettempdir(), f"titlebout-{name}-client.lock").open("w") as lock:
        # Two processes of one test run may want it at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".installed").exists():
            subprocess.run(["make", f"{name}-client"], cwd=ROOT, check=True, capture_output=True, timeout=900)
    return folder / "bin" / "python"
