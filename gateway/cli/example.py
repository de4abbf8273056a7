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
_MUST_SIGN_IN = (
    "The example models need a token here, where callers sign in: set MLFLOW_TRACKING_TOKEN to one of an administrator "
    "and start again."
)
_NOT_YET = "They are not served yet; {url}/api/1.0/titlebout/status says why."


async def provide(url: str, console: Console, *, token: str = "") -> None:
    """Train and register the example unless it is there, wait until it serves, and say how to call it.

    *token* is shown where callers must sign in.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=url, timeout=10, headers=headers) as http:
        found = await http.get("/api/2.0/mlflow/registered-models/get", params={"name": EXAMPLE})
        if found.status_code == httpx.codes.UNAUTHORIZED:
            console.print(_MUST_SIGN_IN, soft_wrap=True)
            return
        # Lines and no spinner: the log goes to the same terminal.
        if not found.is_success:
            console.print("\nTraining two iris models with the MLflow client…")
            if not await _train(url, console, token):
                return
        console.print("Waiting for both to be in memory…")
        ready = await _until_served(http)
    # On an open server nobody needs to show anything, whatever the shell has.
    said = curl_lines(url, signs_in=await _asks_who_is_calling(url))
    console.print(said if ready else _NOT_YET.format(url=url), soft_wrap=True, markup=False)


async def _asks_who_is_calling(url: str) -> bool:
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:
        return (await http.get("/api/1.0/titlebout/me")).status_code == httpx.codes.UNAUTHORIZED


async def _train(url: str, console: Console, token: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway.cli.iris",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**training_environment(os.environ), **({"MLFLOW_TRACKING_TOKEN": token} if token else {})},
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


async def _until_served(http: httpx.AsyncClient) -> bool:
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while True:
                answer = await http.get(f"/api/1.0/titlebout/endpoints/{EXAMPLE}")
                if answer.is_success and {"champion", "challenger"} <= answer.json()["serving"].keys():
                    return True
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        return False


def curl_lines(url: str, *, signs_in: bool = False) -> str:
    """Three lines that work when pasted; where callers sign in, in a shell that has MLflow's variable."""
    body = """-H 'Content-Type: application/json' -d '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'"""
    who = ' -H "Authorization: Bearer $MLFLOW_TRACKING_TOKEN"' if signs_in else ""
    return f"""
Paste one of these:
  curl {url}/invocations{who} {body}
  curl -i {url}/endpoints/{EXAMPLE}/invocations{who} -H 'X-Titlebout-Arm: challenger' {body}
  curl {url}/api/1.0/titlebout/status{who}
"""
