"""What a worker tells of the hosts that it is connected to."""

import asyncio
import time

import numpy as np

from gateway.pool.messages import HostAddress, ModelDescription
from gateway.pool.model_pool import ModelPool
from loaders.base import Batch, Form

MLMODEL = "flavors: {sklearn: {}}"
ROW = Batch(Form.TENSOR, {"": np.zeros((1, 1))})


def test_hosts_count_as_used_once_for_what_they_were_asked_since(tmp_path):
    async def scenario():
        async def silent(reader, writer):
            await reader.read()
            writer.close()

        pool = ModelPool(frame_bytes_max=1 << 20, drain_timeout_s=1, changed=lambda _: None, stuck=lambda _: None)
        description = ModelDescription(flavor="sklearn", predictor="predict", batchable=True, mlmodel=MLMODEL)
        paths = [str(tmp_path / f"{number}.sock") for number in (1, 2)]
        hosts = [
            HostAddress(model="iris", version=number, socket=path, description=description)
            for number, path in enumerate(paths, start=1)
        ]
        servers = [await asyncio.start_unix_server(silent, path) for path in paths]
        await pool.set_hosts(hosts)
        assert pool.used() == []
        pool.find(("iris", 2)).send(ROW, {}, time.monotonic() + 60, lambda _: None)
        assert pool.used() == [paths[1]]
        assert pool.used() == []
        pool.find(("iris", 1)).send(ROW, {}, time.monotonic() + 60, lambda _: None)
        assert pool.used() == [paths[0]]
        await pool.close()
        for server in servers:
            server.close()

    asyncio.run(scenario())


def test_a_host_whose_description_cannot_be_read_keeps_no_other_from_being_connected_to(tmp_path):
    async def scenario():
        async def silent(reader, writer):
            await reader.read()
            writer.close()

        held, broken = [], []
        pool = ModelPool(
            frame_bytes_max=1 << 20, drain_timeout_s=1, changed=held.append, stuck=lambda _: None, broken=broken.append
        )
        paths = [str(tmp_path / f"{number}.sock") for number in (1, 2)]
        hosts = [
            HostAddress(
                model="iris",
                version=number,
                socket=path,
                description=ModelDescription(flavor="sklearn", predictor="predict", batchable=True, mlmodel=mlmodel),
            )
            for number, (path, mlmodel) in enumerate(zip(paths, ("not an MLmodel", MLMODEL), strict=True), start=1)
        ]
        servers = [await asyncio.start_unix_server(silent, path) for path in paths]
        await pool.set_hosts(hosts)
        assert (held[-1], broken) == ([paths[1]], [paths[0]])
        await pool.close()
        for server in servers:
            server.close()

    asyncio.run(scenario())
