"""What a first start shows: two small iris models, and the lines to paste."""

import asyncio
import os
import sys
from collections.abc import Mapping

import httpx
from rich.console import Console

EXAMPLE = "iris-classifier"
_READY_TIMEOUT_S = 120.0
_POLL_S = 0.2
_NOT_YET = "They are not served yet; {url}/api/1.0/titlebout/status says why."


async def provide(url: str, console: Console) -> None:
    """Train and register the example unless it is there, wait until it serves, and say how to call it."""
    # Lines and no spinner: the log goes to the same terminal.
    if not await _is_registered(url):
        console.print("\nTraining two iris models with the MLflow client…")
        if not await _train(url, console):
            return
    console.print("Waiting for both to be in memory…")
    ready = await _until_served(url)
    console.print(curl_lines(url) if ready else _NOT_YET.format(url=url), soft_wrap=True)


async def _is_registered(url: str) -> bool:
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:
        answer = await http.get("/api/2.0/mlflow/registered-models/get", params={"name": EXAMPLE})
        return answer.is_success


async def _train(url: str, console: Console) -> bool:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.cli.iris",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=training_environment(os.environ),
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    for line in out.decode().splitlines():
        # MLflow adds lines of its own about runs and pages; ours say what was made.
        if line.startswith(("version ", EXAMPLE)):
            console.print(f"  {line}")
    if process.returncode:
        last = (err.decode().strip().splitlines() or ["it said nothing"])[-1]
        console.print(f"[red]The example models could not be trained:[/] {last}", soft_wrap=True)
    return process.returncode == 0


def training_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a training script: quiet, and with nothing of another tracking server in it."""
    kept = {name: value for name, value in environment.items() if not name.startswith("MLFLOW_")}
    return {**kept, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


async def _until_served(url: str) -> bool:
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while True:
                    answer = await http.get(f"/api/1.0/titlebout/endpoints/{EXAMPLE}")
                    if answer.is_success and {"champion", "challenger"} <= answer.json()["serving"].keys():
                        return True
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return False


def curl_lines(url: str) -> str:
    """Three lines that work when pasted."""
    body = """-H 'Content-Type: application/json' -d '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'"""
    return f"""
Paste one of these:
  curl {url}/invocations {body}
  curl -i {url}/endpoints/{EXAMPLE}/invocations -H 'X-Titlebout-Arm: challenger' {body}
  curl {url}/api/1.0/titlebout/status
"""
