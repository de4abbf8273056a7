"""Crafted models in real hosts, which nothing confines here: the loaders alone keep their payloads from running."""

import asyncio
import os

import pytest

from gateway.pool.hosts import LoadFailed, warm_parents
from gateway.pool.messages import Restraints, Spawn
from gateway.settings import Confinement
from tests.loaders import crafted

pytestmark = pytest.mark.e2e

# Those of transformers are tried where they are loaded, tests/loaders/test_crafted_models.py: a parent takes long.
MODELS = [*crafted.SKLEARN, *crafted.PYFUNC, *crafted.PYTORCH]


async def refusals(tmp_path, marker):
    """What the host of each of them says, one after the other."""
    said = {}
    async with warm_parents(
        tmp_path,
        log_level="INFO",
        log_format="text",
        environment=os.environ,
        restraints=Restraints(confinement=Confinement.OFF),
    ) as parents:
        for place, model in enumerate(MODELS):
            model.build(tmp_path / f"model-{place}", marker)
            spawn = Spawn(
                model="crafted",
                version=place,
                model_dir=str(tmp_path / f"model-{place}"),
                socket=str(tmp_path / f"{place}.sock"),
                code_policy="deny",
                verified=True,
                frame_bytes_max=2**20,
            )
            host = await parents.spawn(model.flavor, spawn)
            try:
                await host.until_ready(lambda state: None)
            except LoadFailed as error:
                said[model.name] = error.message
            await host.stop(5)
    return said


def test_no_host_runs_what_was_hidden_in_a_model(tmp_path):
    said = asyncio.run(refusals(tmp_path, tmp_path / "marker"))
    assert said.keys() == {model.name for model in MODELS}
    assert all(reason.startswith(("The model's file ", "A model of flavor ")) for reason in said.values())
    assert not (tmp_path / "marker").exists()
