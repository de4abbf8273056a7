"""`titlebout serve`."""

import asyncio
import os
import sys
from typing import Any

import click
import msgspec
from rich.console import Console

from gateway.cli.options import store_options
from gateway.observability.logs import configure_logging
from gateway.settings import ArtifactMode, LogFormat, Settings, environment_name, load_settings


@click.command(context_settings={"show_default": False})
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 8080]")
@store_options
@click.option(
    "--artifact-mode",
    type=click.Choice([mode.value for mode in ArtifactMode]),
    help="How clients reach new experiments' artifacts.  [default: proxied]",
)
@click.option("--workers", type=int, help="HTTP worker processes.  [default: 1]")
@click.option("--model", metavar="models:/NAME@ALIAS", help="What bare /invocations serves.  [default: the only one]")
@click.option("--migrate", is_flag=True, default=None, help="Bring a PostgreSQL's tables up to date first.")
@click.option("--allowed-hosts", metavar="NAMES", help="Host names that requests may name, by comma.")
@click.option("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.  [default: INFO]")
@click.option("--log-format", type=click.Choice(["json", "text"]), help="[default: text at a terminal, else json]")
@click.option("--example", is_flag=True, help="Train and register two small models on the first start.")
def command(*, example: bool, **options: Any) -> None:
    """Serve models, the tracking store and the registry at one address.

    Point MLflow's client at it with MLFLOW_TRACKING_URI. Everything is kept below --data unless placed elsewhere.
    """
    settings = load_settings(options)
    if sys.stderr.isatty() and options["log_format"] is None and environment_name("log_format") not in os.environ:
        settings = msgspec.structs.replace(settings, log_format=LogFormat.TEXT)
    configure_logging(settings.log_level, settings.log_format)
    console = Console(stderr=True, highlight=False)
    serve_with(settings, console, example=example)


def serve_with(settings: Settings, console: Console, *, example: bool) -> None:
    # Here and not above: it brings in the database and the pool, which the checks before don't need.
    from gateway.cli import example as example_models  # noqa: PLC0415
    from gateway.main import serve  # noqa: PLC0415

    def started(url: str) -> None:
        console.print(f"\n[bold]Titlebout[/] is at [bold]{url}[/]   (stop it with Ctrl-C)")
        console.print(f"  export MLFLOW_TRACKING_URI={url}")

    tokens = [settings.admin_token or os.environ.get("MLFLOW_TRACKING_TOKEN", "")]

    def show_token(token: str) -> None:
        tokens.append(token)
        console.print("\nThe first administrator's token, shown this once, and good for a year:")
        console.print(f"  export MLFLOW_TRACKING_TOKEN={token}", soft_wrap=True)

    async def run() -> None:
        if not example:
            await serve(settings, started=started, show_token=show_token)
            return
        loop = asyncio.get_running_loop()
        training: list[asyncio.Task[None]] = []

        def started_with_example(url: str) -> None:
            started(url)
            training.append(loop.create_task(example_models.provide(url, console, token=tokens[-1])))

        await serve(settings, started=started_with_example, show_token=show_token)
        for task in training:
            task.cancel()

    asyncio.run(run())
