"""Verbs that have verbs of their own."""

import click

_LONGEST = 1_000


class Group(click.Group):
    """Says of each verb all of its first sentence, where click's own cuts it at the width of the terminal."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's)
        said = [(name, command.get_short_help_str(_LONGEST)) for name, command in sorted(self.commands.items())]
        with formatter.section("Commands"):
            formatter.write_dl(said)
