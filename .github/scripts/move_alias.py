"""Point an alias at a version with MLflow's own client, and wait until that version answers under it.

Reads `MLFLOW_TRACKING_URI`. The alias is only the wish: the gateway loads and warms the version first, and one that
can't be loaded leaves the old one serving. So success is an answer that names the version, not a write that went
through.
"""

import time
from urllib.parse import quote

import click
import httpx
import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

_EXAMPLE = "serving_input_example.json"
_POLL_INTERVAL_S = 0.5


@click.command()
@click.option("--model-name", required=True)
@click.option("--model-version", required=True, type=click.IntRange(min=1))
@click.option("--alias", required=True)
@click.option("--timeout-s", default=300.0, show_default=True, help="How long loading and warming may take.")
def main(*, model_name: str, model_version: int, alias: str, timeout_s: float) -> None:
    """Move one alias and see the version answer."""
    client = MlflowClient()
    try:
        question = _serving_example(model_name, model_version)
        client.set_registered_model_alias(model_name, alias, str(model_version))
    except MlflowException as error:
        raise click.ClickException(f"The registry refused: {error.message}") from error
    click.echo(f"{model_name}@{alias} is to be version {model_version}")
    if question is None:
        # GitHub shows this form on the run's page.
        click.echo(f"::warning::Version {model_version} has no {_EXAMPLE}: log it with input_example to have it asked")
        return
    url = f"{mlflow.get_tracking_uri().rstrip('/')}/endpoints/{quote(model_name, safe='')}/invocations"
    _wait_for_answer(url, question, alias, model_version, timeout_s)
    click.echo(f"{model_name}@{alias} is answered by version {model_version}")


def _serving_example(model_name: str, model_version: int) -> str | None:
    model_uri = f"models:/{model_name}/{model_version}"
    paths = {file.path for file in mlflow.artifacts.list_artifacts(artifact_uri=model_uri)}
    return mlflow.artifacts.load_text(f"{model_uri}/{_EXAMPLE}") if _EXAMPLE in paths else None


def _wait_for_answer(url: str, question: str, alias: str, model_version: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while (seen := _answering_version(url, question, alias)) != str(model_version):
        if time.monotonic() > deadline:
            raise click.ClickException(f"After {timeout_s:g} s the arm {alias} is not there yet. Last seen: {seen}")
        time.sleep(_POLL_INTERVAL_S)


def _answering_version(url: str, question: str, alias: str) -> str:
    """The version that *alias* answers with or, in its place, why there was no answer."""
    headers = {"Content-Type": "application/json", "X-Titlebout-Arm": alias}
    try:
        answer = httpx.post(url, content=question, headers=headers, timeout=30)
    except httpx.TransportError as error:
        return f"no answer ({error})"
    if answer.status_code != httpx.codes.OK:
        return f"status {answer.status_code}, {answer.text[:500]}"
    return str(answer.headers.get("X-Titlebout-Version", "an answer that names no version"))


if __name__ == "__main__":
    main()
