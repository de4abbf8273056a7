"""`titlebout user`."""

import click

from gateway.cli.client import Client
from gateway.cli.groups import Group
from gateway.cli.options import server_option
from gateway.cli.tables import day, show


@click.group(cls=Group)
def command() -> None:
    """Who may sign in, and what they may do.

    GRANTS are roles: viewer (sees everything), scorer (asks endpoints), publisher (logs and registers), promoter (moves
    aliases and splits), admin. A permission alone, such as alias:write, may stand for a role. Each is for everything,
    or for names: viewer:model:iris-1, publisher:experiment:iris-* for all that begin so.
    """


@command.command("list")
@server_option
def list_(server: str) -> None:
    """Everybody, with what they may do."""
    rows = [
        (user["name"], ", ".join(user["grants"]) or "nothing", _how(user), user["created_by"], day(user["created_ms"]))
        for user in Client(server).users()
    ]
    show(("user", "may", "signs in by", "added by", "on (UTC)"), rows)


@command.command()
@server_option
def me(server: str) -> None:
    """Who the server takes you for."""
    said = Client(server).me()
    may = "a scoring key" if said["scoring_key"] else ", ".join(said["grants"]) or "nothing"
    click.echo(f"{said['name']}: {may}")


@command.command()
@click.argument("name")
@click.argument("grants", nargs=-1)
@click.option("--password", "with_password", is_flag=True, help="Ask for a password; otherwise by token only.")
@click.option("--oidc", is_flag=True, help="Whoever the OpenID Connect issuer calls NAME is this user.")
@server_option
def add(*, name: str, grants: tuple[str, ...], with_password: bool, oidc: bool, server: str) -> None:
    """Add NAME, who may do GRANTS: `titlebout user add ann publisher scorer`."""
    password = _new_password() if with_password else None
    user = Client(server).add_user(name, grants, password, oidc=oidc)
    click.echo(f"{name} is added and may: {', '.join(user['grants']) or 'nothing'}.")
    if not with_password and not oidc:
        click.echo(f"A token for them: titlebout token create NAME --user {name}")


@command.command()
@click.argument("name")
@click.argument("grants", nargs=-1)
@server_option
def grant(name: str, grants: tuple[str, ...], server: str) -> None:
    """Let NAME do GRANTS and nothing else; without any, nothing at all."""
    user = Client(server).change_user(name, grants=grants)
    click.echo(f"{name} may: {', '.join(user['grants']) or 'nothing'}.")


@command.command()
@click.argument("name")
@click.option("--none", "without", is_flag=True, help="Take the password away: by token only.")
@server_option
def password(*, name: str, without: bool, server: str) -> None:
    """Ask for a new password for NAME; it ends their sessions."""
    Client(server).change_user(name, password="" if without else _new_password())
    click.echo(f"{name} signs in by {'token only' if without else 'the new password'}.")


@command.command()
@click.argument("name")
@click.option("--none", "without", is_flag=True, help="Be nobody of the issuer's any more.")
@server_option
def oidc(*, name: str, without: bool, server: str) -> None:
    """Let NAME be whoever the OpenID Connect issuer calls so at the next sign-in; it ends their sessions."""
    Client(server).change_user(name, oidc=not without)
    click.echo(f"{name} is nobody of the issuer's any more." if without else f"{name} may sign in by the issuer.")


@command.command()
@click.argument("name")
@server_option
def disable(name: str, server: str) -> None:
    """Turn NAME's access off, with all their tokens, until it is enabled again."""
    Client(server).change_user(name, is_disabled=True)
    click.echo(f"{name} is out, on all replicas within two seconds.")


@command.command()
@click.argument("name")
@server_option
def enable(name: str, server: str) -> None:
    """Let NAME in again."""
    Client(server).change_user(name, is_disabled=False)
    click.echo(f"{name} is in again.")


@command.command()
@click.argument("name")
@server_option
def remove(name: str, server: str) -> None:
    """Remove NAME, with all their tokens."""
    Client(server).remove_user(name)
    click.echo(f"{name} is removed.")


def _new_password() -> str:
    asked: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return asked


def _how(user: dict[str, object]) -> str:
    if user["is_disabled"]:
        return "nothing: disabled"
    ways = {"password": user["has_password"], "oidc": user["oidc_subject"], "awaits oidc": user["oidc_awaited"]}
    return ", ".join([*(way for way, is_there in ways.items() if is_there), "token"])
