"""An HTTP worker keeps to what its supervisor says, and mends by itself what its supervisor can't see."""

import asyncio
import signal
import socket
import time

import msgspec

from gateway.pool.messages import (
    Begin,
    HostAddress,
    Hosts,
    ModelDescription,
    Switch,
    Switched,
    ToSupervisor,
    encode_line,
    open_line,
    receive,
)
from gateway.pool.model_pool import ModelPool
from gateway.routing_table import CurrentTable
from gateway.worker import Follower, _end_if_failed
from registry.entities import RoutingTable

TO_SUPERVISOR = msgspec.json.Decoder(ToSupervisor)


def test_a_connection_that_a_living_host_broke_off_is_made_anew(tmp_path):
    async def until_connected_twice():
        connected = asyncio.Queue()

        async def host(_reader, writer):
            await connected.put(writer)

        path = str(tmp_path / "host.sock")
        ours, theirs = socket.socketpair()
        _, supervisor = await open_line(ours)
        reader, writer = await open_line(theirs)
        follower = Follower(reader, writer, current=CurrentTable())
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


def test_a_worker_that_takes_anothers_place_has_the_table_in_force_before_it_begins():
    async def scenario():
        ours, theirs = socket.socketpair()
        said, supervisor = await open_line(ours)
        reader, writer = await open_line(theirs)
        current = CurrentTable()
        follower = Follower(reader, writer, current=current)
        pool = ModelPool(frame_bytes_max=1, drain_timeout_s=1, changed=follower.tell_connected, stuck=lambda _: None)
        # A flip is under way: its table is there, and its instant isn't.
        in_force, to_come = RoutingTable(epoch=3), RoutingTable(epoch=4)
        now_s = time.time()
        for message in (Switch(in_force, now_s - 60), Switch(to_come, now_s + 0.1), Begin()):
            supervisor.write(encode_line(message))
        following = asyncio.create_task(follower.follow())
        await follower.until_begun(pool)
        assert (current.live.epoch, current.reason_not_ready()) == (3, None)
        async with asyncio.timeout(10):
            while await receive(said, TO_SUPERVISOR) != Switched(4):
                pass
        assert current.live.epoch == 4
        following.cancel()
        await pool.close()
        for line in (writer, supervisor):
            line.close()
            await line.wait_closed()

    asyncio.run(scenario())


def test_a_worker_that_cannot_follow_its_hosts_asks_for_a_successor(caplog):
    async def until_asked():
        asked = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)

        async def fail():
            raise OSError("as a fault of ours would")

        try:
            connecting = asyncio.create_task(fail())
            connecting.add_done_callback(_end_if_failed)
            await asyncio.wait_for(asked.wait(), 5)
        finally:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    asyncio.run(until_asked())
    assert "worker_lost_its_way" in caplog.text
