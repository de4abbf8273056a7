"""The tools that judge what is deployed, run as a person would in the repository's root."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TOOLS = Path(sys.executable).parent


def run_tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(_TOOLS / name), *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
