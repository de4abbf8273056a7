"""Flips under load: nobody notices, and nobody is answered from yesterday's table. `make chaos` does two hundred."""

import asyncio
import json
import warnings
from itertools import pairwise

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from gateway.cli.client import Client
from loadtests.flips import OLD_TABLE_MS_MAX, commits_s, flip_under_load, old_tables_ms
from loadtests.stalls import watched_stalls
from tests.gateway.test_serving import wait_until, wait_until_served
from tests.training import IRIS, register, set_alias

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FLIPS = 20
# Rows around the border of two classes, where two steps of training and many give different answers.
ROWS = [row.tolist() for row in IRIS.data.to_numpy()[50:150:5]]


def trained(steps):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LogisticRegression(max_iter=steps).fit(IRIS.data, IRIS.target)


def offline_answer(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"predictions": model.predict(np.array(ROWS)).tolist()}


def test_flips_over_two_replicas_lose_nothing_and_show_nobody_an_old_table(serve, postgres_database_url, tmp_path):
    options = ("--workers", "2", "--database-url", postgres_database_url, "--artifact-root", str(tmp_path / "files"))
    first = serve(*options, "--migrate", data=tmp_path / "first")
    models = {1: trained(2), 2: trained(500)}
    for model in models.values():
        register(first.url, "iris", model)
    right = {version: offline_answer(model) for version, model in models.items()}
    assert right[1] != right[2]
    set_alias(first.url, "iris", "champion", 1)
    set_alias(first.url, "iris", "challenger", 2)
    wait_until_served(first.url, "iris", champion=1, challenger=2)
    second = serve(*options, data=tmp_path / "second")
    client = Client(first.url)
    wait_until(lambda: len([r for r in client.status()["replicas"] if r["live"]]) == 2)

    body = json.dumps({"inputs": ROWS}).encode()
    servers = (first, second)
    with watched_stalls() as stalls:
        loads, _ = asyncio.run(flip_under_load([s.url for s in servers], "iris", body, flips=FLIPS, connections=4))

    commits = commits_s(servers)
    assert len(commits) > FLIPS
    for load in loads:
        assert len(load.outcomes) > FLIPS
        assert load.failures == []
        assert not load.epochs_went_back()
        for outcome in load.outcomes:
            assert json.loads(outcome.content) == right[outcome.version]
        # Each epoch names the other version than the one before, so an old table is an old version.
        for before, after in pairwise(sorted({(outcome.epoch, outcome.version) for outcome in load.outcomes})):
            assert before[0] < after[0]
            assert before[1] != after[1]
    old_ms = old_tables_ms(loads, commits, stalls)
    assert len(old_ms) > FLIPS / 10, "the machine is too busy to say when anything happened"
    assert max(old_ms.values()) < OLD_TABLE_MS_MAX
