"""Hashes a large model's files in a process of its own, which gives way to predictions.

A thread of the supervisor's couldn't: one that holds Python's lock and doesn't run keeps the whole supervisor waiting.
"""

import subprocess
import sys
from pathlib import Path

from gateway.pool import scheduling
from tracking.manifest import Manifest, verify

# Under it the hashing is over before a process has started.
_APART_FROM_BYTES = 16 * 1024**2


def verify_apart(manifest: Manifest, folder: Path) -> None:
    """As `verify` does, which also has the word if the process doesn't say that all is well.

    Raises:
        DigestMismatch: naming the first file that is missing, changed, or in no manifest.
    """
    if manifest.size < _APART_FROM_BYTES or not _is_well(manifest, folder):
        verify(manifest, folder)


def _is_well(manifest: Manifest, folder: Path) -> bool:
    try:
        hashing = subprocess.Popen(
            [sys.executable, "-m", "gateway.pool.verification", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return False
    with hashing:
        try:
            hashing.communicate(manifest.text.encode(), scheduling.LONGEST_S)
        except subprocess.TimeoutExpired:
            _hurry(hashing)
        return hashing.wait() == 0


def _hurry(hashing: "subprocess.Popen[bytes]") -> None:
    """Have it take its share of the processors, or else end it."""
    try:
        scheduling.come_back(hashing.pid)
    except PermissionError:
        hashing.kill()


def main() -> None:
    """Serve ``python -m gateway.pool.verification FOLDER``, with the manifest's text on the standard input."""
    scheduling.give_way()
    verify(Manifest.from_text(sys.stdin.buffer.read().decode()), Path(sys.argv[1]))


if __name__ == "__main__":
    main()
