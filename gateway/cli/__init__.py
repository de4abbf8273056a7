"""The program `titlebout`: its verbs. Each is a file of its own, imported when it is called."""

import sys
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from gateway.cli.groups import Group
from gateway.cli.secret_options import hide_secret_options
from tracking.errors import ServingError

_VERBS = {
    "serve": ("gateway.cli.serve", "Serve models, tracking and registry."),
    "db": ("gateway.cli.db", "Bring the database's tables up to date, or say what they are at."),
    "status": ("gateway.cli.status", "What is desired, what is served, what is in memory."),
    "resolve": ("gateway.cli.resolve", "The version, source and digest that a model's URI means."),
    "promote": ("gateway.cli.promote", "Point an alias at a version; an arm's alias moves traffic."),
    "rollout": ("gateway.cli.rollout", "Give a version more and more of the traffic, watched."),
    "rollback": ("gateway.cli.rollback", "Answer from the champion before again, at once."),
    "split": ("gateway.cli.split", "Share an endpoint's traffic between its arms."),
    "fallback": ("gateway.cli.fallback", "Have the champion answer where another arm fails."),
    "shadow": ("gateway.cli.shadow", "Have an arm answer a copy of the traffic, and see how far it differs."),
    "assign": ("gateway.cli.assign", "Which arm a unit meets, and why; a log worked out again."),
    "feedback": ("gateway.cli.feedback", "Say what predictions should have been, one or a file of them."),
    "predictions": ("gateway.cli.predictions", "List or fetch what is kept of predictions, as Parquet."),
    "compare": ("gateway.cli.compare", "Whether the challenger is better, and what that rests on."),
    "plan": ("gateway.cli.plan", "How many callers it takes to see a difference."),
    "gate": ("gateway.cli.gate", "What must hold before an alias moves or an arm takes more."),
    "approve": ("gateway.cli.approve", "Vouch for a version, where a gate asks for it."),
    "loadtest": ("gateway.cli.loadtest", "Put a version under load, beside the champion; keep the report."),
    "log": ("gateway.cli.log", "Who changed what is served, when and why."),
    "sign": ("gateway.cli.sign", "Vouch for a version's files with a key of yours."),
    "verify": ("gateway.cli.verify", "Who vouches for a version's files."),
    "user": ("gateway.cli.user", "Who may sign in, and what they may do."),
    "token": ("gateway.cli.token", "Tokens: one's own, and those of others."),
    "key": ("gateway.cli.key", "Keys with which applications ask endpoints."),
    "keys": ("gateway.cli.keys", "Keys that the ids of predictions are signed with."),
    "doctor": ("gateway.cli.doctor", "Check the database and the artifact store, a line each."),
    "backup": ("gateway.cli.backup", "Back up database and artifacts, beside running servers."),
    "restore": ("gateway.cli.restore", "Put a backup into a database and an artifact root."),
    "import": ("gateway.cli.import_", "Copy everything that a running MLflow server has."),
    "gc": ("gateway.cli.gc", "Remove what was deleted long ago, and artifacts that belong to nobody."),
    "demo": ("gateway.cli.demo", "The tour: train, register, serve, split, flip under load."),
}


class _Verbs(Group):
    """Imports a verb's file only when the verb is used: `titlebout --help` shouldn't wait for a database library."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  (click's)
        if cmd_name not in _VERBS:
            return None
        module = __import__(_VERBS[cmd_name][0], fromlist=["command"])
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's)
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _VERBS.items()])


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="titlebout", prog_name="titlebout")
def cli() -> None:
    """Serve the champion, test the challenger on live traffic, swap them without dropping a request.

    Every setting of `serve` is also an environment variable, TITLEBOUT_ and its name: --port is TITLEBOUT_PORT. The
    verbs that talk to a running server find it by --server or TITLEBOUT_URL.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run `titlebout`; an error of ours is a sentence and status 1, never a stack trace."""
    if arguments is None:
        hide_secret_options()
    try:
        return cli.main(arguments, prog_name="titlebout")
    except ServingError as error:
        # Escaped: a reason may name an extra, titlebout[torch], which isn't a colour.
        Console(stderr=True).print(f"[red]Error:[/] {escape(error.message)}", highlight=False, soft_wrap=True)
        sys.exit(1)
