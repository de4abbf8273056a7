"""An HTTP worker keeps to what its supervisor says, and mends by itself what its supervisor can't see."""

import asyncio
import socket

from prometheus_client import CollectorRegistry

from gateway.observability import RequestMetrics
from gateway.pool.messages import HostAddress, Hosts, ModelDescription, encode_line, open_line
from gateway.pool.model_pool import ModelPool
from gateway.routing_table import CurrentTable
from gateway.worker import Follower


def test_a_connection_that_a_living_host_broke_off_is_made_anew(tmp_path):
    async def until_connected_twice():
        connected = asyncio.Queue()

        async def host(_reader, writer):
            await connected.put(writer)

        path = str(tmp_path / "host.sock")
        ours, theirs = socket.socketpair()
        _, supervisor = await open_line(ours)
        reader, writer = await open_line(theirs)
        metrics = RequestMetrics(CollectorRegistry())
        follower = Follower(reader, writer, current=CurrentTable(), metrics=metrics)
        pool = ModelPool(
            frame_bytes_max=1,
            drain_timeout_s=1,
            changed=follower.tell_connected,
            stuck=lambda _: None,
        )
        description = ModelDescription(
            flavor="sklearn", predictor="predict", batchable=True, mlmodel="flavors: {sklearn: {}}"
        )
        address = HostAddress(model="iris", version=1, socket=path, description=description)
        async with asyncio.timeout(30), await asyncio.start_unix_server(host, path):
            tasks = [asyncio.create_task(follower.follow()), asyncio.create_task(follower.keep_connected(pool))]
            supervisor.write(encode_line(Hosts([address])))
            (await connected.get()).close()
            second = await connected.get()
            for task in tasks:
                task.cancel()
            await pool.close()
            for line in (second, writer, supervisor):
                line.close()
                await line.wait_closed()

    asyncio.run(until_connected_twice())
