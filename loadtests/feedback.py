"""How many labels a second a server takes in bulk, and what each costs: ``python -m loadtests.feedback``.

Ids are made here with the server's own key, of an endpoint with two arms whose answers are classes, probabilities and
numbers by turns, and whose units fall on all clusters. So nothing of the predictions themselves is in the figures. The
client makes its bodies beforehand, and sends one after the other over one connection.
"""

import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from random import Random

import click
import httpx
import msgspec

from gateway.cli.server_process import ServerProcess, free_port, server_process
from gateway.feedback.prediction_ids import Answered, MakeId, id_maker
from gateway.settings import Settings
from loadtests.processes import processor_s
from registry import aliases, endpoints, models, prediction_keys, versions
from registry.entities import CHALLENGER, CHAMPION
from registry.sources import Claim, SourcePolicy
from tracking.database import Database

_AT_ONCE = 5_000
_LINES = {"Content-Type": "application/x-ndjson"}
_SEED = 1


@click.command()
@click.option("--database", "url", default="", metavar="URL", help="An empty PostgreSQL; SQLite without it.")
@click.option("--labels", default=50_000, show_default=True, help="How many, 5,000 a request.")
def main(*, url: str, labels: int) -> None:
    """Give labels in bulk, and the same once more."""
    with tempfile.TemporaryDirectory() as folder, _serving(Path(folder) / "data", url) as (server, database):
        bodies = list(_bodies(_makers(database), labels))
        _measure(server, bodies, "new", expected="accepted")
        _measure(server, bodies, "repeated", expected="repeated")


@contextmanager
def _serving(data: Path, url: str) -> Iterator[tuple[ServerProcess, Database]]:
    environment = {"TITLEBOUT_DATABASE_URL": url, "TITLEBOUT_LOG_LEVEL": "WARNING"}
    with server_process(data, "--migrate", port=free_port(), environment=environment, started_by="/health") as server:
        database = Database(url or Settings(data=str(data)).database)
        try:
            yield server, database
        finally:
            database.dispose()


def _makers(database: Database) -> list[MakeId]:
    """What makes ids of both arms of an endpoint, which is stopped, so that nobody looks for its models."""
    policy = SourcePolicy(locate=lambda _: None, prefixes=("s3://nowhere",))
    name = f"labelled-{secrets.token_hex(4)}"
    with database.writing() as session:
        models.create_model(session, name, now_ms=1)
        for version, arm in enumerate((CHAMPION, CHALLENGER), 1):
            versions.create_version(session, name, Claim(source="s3://nowhere/model"), policy=policy, now_ms=1)
            aliases.set_alias(session, name, arm, version, author="loadtest", now_ms=1)
        even = {CHAMPION: 5_000, CHALLENGER: 5_000}
        split = endpoints.change_split(session, name, even, author="loadtest", now_ms=1)
        endpoints.stop_endpoint(session, name, author="loadtest", now_ms=1)
        key = prediction_keys.ensure_key(session, now_ms=1)
    answered = [
        Answered(split.endpoint_id, split.period, arm, version) for version, arm in enumerate((CHAMPION, CHALLENGER), 1)
    ]
    counted = count()
    return [
        id_maker(key, one, nonce_prefix=secrets.token_bytes(4), counted=counted, clock_ns=time.time_ns)
        for one in answered
    ]


def _bodies(makers: Sequence[MakeId], labels: int) -> Iterator[bytes]:
    items = _items(makers, labels)
    while some := list(islice(items, _AT_ONCE)):
        yield msgspec.json.Encoder().encode_lines(some)


def _items(makers: Sequence[MakeId], labels: int) -> Iterator[dict[str, object]]:
    random = Random(_SEED)
    kinds = (
        lambda: (random.choice(["setosa", "virginica"]), "setosa"),
        lambda: (random.random(), random.random() < 0.5),
        lambda: (random.random(), random.random()),
    )
    for number in range(labels):
        prediction, label = kinds[number % len(kinds)]()
        made = random.choice(makers)(random.randrange(10_000), prediction)
        yield {"prediction_id": made.decode(), "label": label}


def _measure(server: ServerProcess, bodies: Sequence[bytes], what: str, *, expected: str) -> None:
    """Send all *bodies*, each of whose items must come to what is *expected*, and print what that took."""
    began_s, before_s, counted, longest_s = time.perf_counter(), processor_s(server.process.pid), 0, 0.0
    with httpx.Client(base_url=server.url, timeout=60, headers=_LINES) as client:
        for body in bodies:
            sent_s = time.perf_counter()
            answer = client.post("/feedback", content=body).raise_for_status().json()
            longest_s = max(longest_s, time.perf_counter() - sent_s)
            counted += answer[expected]
            if answer["errors"]:
                raise click.ClickException(str(answer["errors"][0]))
    took_s, used_s = time.perf_counter() - began_s, processor_s(server.process.pid) - before_s
    click.echo(
        f"{what:9} {counted:,} labels in {took_s:.2f} s: {counted / took_s:,.0f} a second, "
        f"{used_s / counted * 1e6:.0f} µs of processor time each; the longest request took {longest_s * 1000:.0f} ms"
    )


if __name__ == "__main__":
    main()
