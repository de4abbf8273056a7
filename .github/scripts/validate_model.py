"""Say whether a registered version may be promoted, by the metrics of the run that made it.

Reads `MLFLOW_TRACKING_URI`, tags the version with `approval_status`, and exits non-zero if a gate is not met.
"""

import sys

import click
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException


class Gate(click.ParamType[tuple[str, float]]):
    """A metric and the least it must be, written ``accuracy=0.9``."""

    name = "METRIC=LEAST"

    def convert(
        self, value: str | tuple[str, float], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        metric, _, least = value.partition("=")
        try:
            return metric, float(least)
        except ValueError:
            self.fail(f"{value!r} is no gate; expected one like accuracy=0.9", param, ctx)


@click.command()
@click.option("--model-name", required=True)
@click.option("--model-version", required=True, type=click.IntRange(min=1))
@click.option("--gate", "gates", type=Gate(), multiple=True, default=[("accuracy", 0.90), ("f1_macro", 0.85)])
def main(*, model_name: str, model_version: int, gates: tuple[tuple[str, float], ...]) -> None:
    """Check the gates of one version, a line each."""
    client = MlflowClient()
    try:
        version = client.get_model_version(model_name, str(model_version))
        passed = _check(client, version, gates)
        status = "approved" if passed else "rejected"
        client.set_model_version_tag(model_name, str(model_version), "approval_status", status)
    except MlflowException as error:
        raise click.ClickException(f"The registry refused: {error.message}") from error
    click.echo(f"{model_name} version {model_version}: {status}")
    sys.exit(0 if passed else 1)


def _check(client: MlflowClient, version: ModelVersion, gates: tuple[tuple[str, float], ...]) -> bool:
    metrics = client.get_run(version.run_id).data.metrics if version.run_id else {}
    results = [_show("the version is READY", version.status, passed=version.status == "READY")]
    for metric, least in gates:
        found = metrics.get(metric)
        # A metric that was never logged has not met its gate.
        results.append(_show(f"{metric} >= {least:g}", found, passed=found is not None and found >= least))
    return all(results)


def _show(gate: str, found: object, *, passed: bool) -> bool:
    click.echo(f"{'PASS' if passed else 'FAIL'}  {gate}  (found: {'nothing' if found is None else found})")
    return passed


if __name__ == "__main__":
    main()
