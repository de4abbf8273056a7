"""`titlebout doctor`: is everything there that `titlebout serve` needs?"""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import click
from rich.console import Console
from sqlalchemy import text

from gateway.access.oidc.configuration import ensure_oidc_usable
from gateway.artifact_access import open_artifact_store
from gateway.cli.openings import find_openings
from gateway.cli.options import store_options
from gateway.settings import Settings, load_settings
from loaders.code_policy import CodePolicy
from tracking.artifacts import CheckStep, check_store
from tracking.database import Database
from tracking.errors import ServingError

_DAY_MS = 24 * 3600 * 1000


@click.command()
@store_options
def command(**options: Any) -> None:
    """Check the database, the artifact store, the trusted keys and the OIDC issuer, and say what is open.

    A line each; status 1 if a check fails. What is open is no failure: it may be meant.
    """
    settings = load_settings(options)
    console = Console(highlight=False)
    healthy = True
    for part, steps in (
        ("database", _check_database(settings)),
        ("artifacts", _check_artifacts(settings)),
        ("keys", _check_keys(settings)),
        ("issuer", _check_issuer(settings)),
    ):
        for step in steps:
            healthy = healthy and step.ok
            mark = "[green]ok  [/]" if step.ok else "[red]FAIL[/]"
            console.print(f"{mark}  {part:<9}  {step.name:<8}  {step.detail}", soft_wrap=True)
    for opening in find_openings(settings, os.environ):
        console.print(f"[yellow]open[/]  security   {opening.name:<8}  {opening.what}: {opening.do}", soft_wrap=True)
    sys.exit(0 if healthy else 1)


def _check_database(settings: Settings) -> Iterator[CheckStep]:
    database = Database(settings.database)
    reached = _step("reach", lambda: _reach(database))
    yield reached
    if reached.ok:
        yield _step("tables", lambda: _tables(database))
        yield _step("write", lambda: _write(database))
    database.dispose()


def _check_artifacts(settings: Settings) -> Iterator[CheckStep]:
    try:
        store = open_artifact_store(settings)
    except ServingError as error:
        yield CheckStep("open", ok=False, detail=error.message)
    else:
        yield from check_store(store)


def _check_keys(settings: Settings) -> Iterator[CheckStep]:
    """Whose signatures count, where signatures do."""
    if settings.code_policy is not CodePolicy.SIGNED:
        return
    from registry.signing.keys import trusted_keys  # noqa: PLC0415  (cryptography, only where it is wanted)

    trusted = trusted_keys(settings.trusted_keys)
    now_ms = int(time.time() * 1000)
    for key in trusted.by_id.values():
        left_ms = None if key.expires_ms is None else key.expires_ms - now_ms
        until = "without an end" if left_ms is None else f"{left_ms // _DAY_MS} days left" if left_ms > 0 else "expired"
        yield CheckStep(key.name, ok=left_ms is None or left_ms > 0, detail=f"{key.key_id[:12]}, {until}")
    for sentence in trusted.unusable:
        yield CheckStep("read", ok=False, detail=sentence)
    if not trusted.by_id:
        yield CheckStep("trusted", ok=False, detail="no key is trusted, so no model that runs code can load")


def _check_issuer(settings: Settings) -> Iterator[CheckStep]:
    """Whether somebody could sign in by the issuer, where one is set."""
    if settings.oidc_issuer:
        usable = _step("settings", lambda: _issuer_settings(settings))
        yield usable
        if usable.ok:
            yield _step("answers", lambda: asyncio.run(_ask_issuer(settings)))


def _issuer_settings(settings: Settings) -> str:
    ensure_oidc_usable(settings)
    return f"users are called by {settings.oidc_user_claim!r}"


async def _ask_issuer(settings: Settings) -> str:
    from gateway.access.oidc.issuer import Issuer  # noqa: PLC0415  (an extra)

    issuer = Issuer(settings, clock=time.time)
    try:
        keys = await issuer.keys()
    finally:
        await issuer.close()
    return f"as {settings.oidc_issuer} (keys that are accepted: {len(keys)})"


def _reach(database: Database) -> str:
    with database.reading() as session:
        session.execute(text("SELECT 1"))
    return database.place


def _tables(database: Database) -> str:
    database.check_revision()
    return f"at revision {database.revision()}"


def _write(database: Database) -> str:
    """Make a table, write a row and drop it again: what a role needs for migrations and for everything after."""
    table = f"titlebout_doctor_{uuid.uuid4().hex[:12]}"
    with database.writing() as session:
        session.execute(text(f"CREATE TABLE {table} (n INTEGER)"))
        session.execute(text(f"INSERT INTO {table} VALUES (1)"))  # noqa: S608  (a name made above, of hexadecimal digits)
        session.execute(text(f"DROP TABLE {table}"))
    return "made a table, wrote a row, dropped it"


def _step(name: str, check: Callable[[], str]) -> CheckStep:
    try:
        return CheckStep(name, ok=True, detail=check())
    except ServingError as error:
        return CheckStep(name, ok=False, detail=error.reason)
