"""Verbs that have verbs of their own."""

from difflib import get_close_matches

import click

_LONGEST = 1_000


class Group(click.Group):
    """Says of each verb all of its first sentence, where click's own cuts it at the width of the terminal."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, verbs = args[0], self.list_commands(ctx)
        if name not in verbs and (near := get_close_matches(name, verbs)):
            ctx.fail(f"There is no verb {name!r}; is it {' or '.join(near)}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's)
        said = [(name, command.get_short_help_str(_LONGEST)) for name, command in sorted(self.commands.items())]
        with formatter.section("Commands"):
            formatter.write_dl(said)
