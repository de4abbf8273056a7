"""Options that several verbs share."""

from collections.abc import Callable
from typing import Any

import click

Decorated = Callable[..., Any]


def store_options(function: Decorated) -> Decorated:
    """Where the database and the artifacts are, in our spelling and in MLflow's."""
    for option in reversed(
        [
            click.option("--data", metavar="DIR", help="Folder for all that isn't placed elsewhere.  [default: data]"),
            click.option(
                "--database-url",
                "--backend-store-uri",
                metavar="URL",
                help="SQLite or PostgreSQL (also plain postgresql://).  [default: DIR/titlebout.db]",
            ),
            click.option(
                "--artifact-root",
                "--artifacts-destination",
                "--default-artifact-root",
                metavar="URI",
                help="Folder or s3://bucket/prefix.  [default: DIR/artifacts]",
            ),
        ]
    ):
        function = option(function)
    return function


def server_option(function: Decorated) -> Decorated:
    return click.option(
        "--server",
        envvar="TITLEBOUT_URL",
        default="http://127.0.0.1:8080",
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="The running Titlebout to talk to.",
    )(function)


def reason_option(function: Decorated) -> Decorated:
    return click.option("--reason", metavar="TEXT", help="Why, for the history.")(function)


def override_option(function: Decorated) -> Decorated:
    return click.option(
        "--override", metavar="REASON", help="Pass by gates that aren't met, if you may; the reason is kept."
    )(function)
