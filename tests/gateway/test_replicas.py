"""Two replicas over one PostgreSQL and one S3 flip together, and a fresh one is ready only with what is served."""

import asyncio

import httpx
import pytest

from gateway.cli.client import Client
from gateway.cli.load import Load
from tests.gateway.test_serving import BODY, ask, wait_until, wait_until_served
from tests.training import constant_classifier, register, set_alias

pytestmark = pytest.mark.e2e


@pytest.fixture
def shared(postgres_database_url, s3_environment, tmp_path):
    """Options and environment of replicas that share a database and a store, and nothing else."""
    bucket = f"s3://titlebout-test/{tmp_path.name}"
    return ("--database-url", postgres_database_url, "--artifact-root", bucket, "--migrate"), s3_environment


def test_two_replicas_flip_together_and_lose_no_request(serve, shared, tmp_path):
    options, environment = shared
    first = serve(*options, data=tmp_path / "first", environment=environment)
    for answer in (0, 1):
        register(first.url, "iris", constant_classifier(answer))
    set_alias(first.url, "iris", "champion", 1)
    set_alias(first.url, "iris", "challenger", 2)
    wait_until_served(first.url, "iris", champion=1, challenger=2)

    second = serve(*options, data=tmp_path / "second", environment=environment)
    # Ready means ready: the first request to a fresh replica is answered.
    assert ask(second.url).json() == {"predictions": [0]}
    client = Client(first.url)
    wait_until(lambda: len([r for r in client.status()["replicas"] if r["live"]]) == 2)

    async def flip_under_load():
        loads = [Load(f"{server.url}/endpoints/iris/invocations", BODY, connections=4) for server in (first, second)]
        async with loads[0].running(), loads[1].running():
            for version in (2, 1, 2, 1):
                epochs = [load.newest_epoch for load in loads]
                await asyncio.to_thread(set_alias, second.url, "iris", "champion", version)
                for load, epoch in zip(loads, epochs, strict=True):
                    await load.until_answered_by(version, after_epoch=epoch, timeout_s=60)
        return loads

    for load in asyncio.run(flip_under_load()):
        assert load.failures == []
        assert not load.epochs_went_back()

    assert second.stop() == 0
    # A replica that left in order is not waited for.
    set_alias(first.url, "iris", "champion", 2)
    wait_until(lambda: ask(first.url).json() == {"predictions": [1]}, timeout_s=10)


def test_a_postgresql_is_migrated_only_when_told(serve, shared, tmp_path):
    options, environment = shared
    with pytest.raises(Exception, match="serve --migrate"):
        serve(*options[:-1], data=tmp_path / "first", environment=environment)
    server = serve(*options, data=tmp_path / "second", environment=environment)
    assert httpx.get(f"{server.url}/health").text == "OK"
