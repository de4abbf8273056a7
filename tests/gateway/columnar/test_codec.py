"""Tables decoded in a process of their own: what comes back, and what becomes of bodies that mean harm."""

import asyncio
import importlib.util
import io
import random
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.columnar.codec import CodecTimedOut, PyarrowMissing, TableCodec
from gateway.columnar.messages import Task
from gateway.settings import Confinement
from loaders.base import Batch, Form
from loaders.errors import BadInput
from tracking.errors import TooLarge

pytestmark = pytest.mark.e2e

BYTES_MAX = 64 * 1024**2


def stream(table, **options):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


TABLE = pa.table(
    {
        "doubles": [0.1, None],
        "times": pa.array([0, None], pa.timestamp("ms")),
        "words": pa.array(["a", None]).dictionary_encode(),
        "lists": [[1, 2], None],
    }
)


def new_codec(*, decoded_bytes_max=BYTES_MAX, timeout_s=60, hidden=()):
    return TableCodec(
        decoded_bytes_max=decoded_bytes_max,
        timeout_s=timeout_s,
        confinement=Confinement.AUTO,
        hidden=hidden,
    )


@asynccontextmanager
async def running_codec(**options):
    codec = new_codec(**options)
    try:
        yield codec
    finally:
        codec.close()


async def pid_of(codec):
    await codec.read(Task.READ_STREAM, stream(TABLE))
    return codec._line.process.pid


def test_tables_come_back_as_arrays_and_go_out_as_streams():
    async def ask():
        async with running_codec() as codec:
            for task, body in [(Task.READ_STREAM, stream(TABLE)), (Task.READ_PARQUET, parquet(TABLE))]:
                arrays = await codec.read(task, body)
                assert arrays.form is Form.TABLE
                np.testing.assert_array_equal(arrays.by_name["doubles"], [0.1, np.nan])
                assert arrays.by_name["times"].astype("datetime64[ms]").tolist() == [
                    np.datetime64(0, "ms").item(),
                    None,
                ]
                assert arrays.by_name["words"].tolist() == ["a", None]
                assert arrays.by_name["lists"].tolist() == [[1, 2], None]
            answer = Batch(Form.TABLE, {"it": np.array([[0.1, 0.2]])})
            table = pa.ipc.open_stream(await codec.write(answer)).read_all()
            assert table.to_pylist() == [{"it": [0.1, 0.2]}]
            for columns in ({"it": np.array([{}], dtype=object)}, {"a": np.zeros(1), "b": np.zeros(2)}):
                with pytest.raises(BadInput, match="JSON"):
                    await codec.write(Batch(Form.TABLE, columns))

    asyncio.run(ask())


def test_many_at_once_each_get_their_own():
    async def ask():
        async with running_codec() as codec:
            bodies = [stream(pa.table({"n": [n]})) for n in range(20)]
            arrays = await asyncio.gather(*[codec.read(Task.READ_STREAM, body) for body in bodies])
            assert [array.by_name["n"].tolist() for array in arrays] == [[n] for n in range(20)]

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("task", "body"),
    [
        pytest.param(
            Task.READ_STREAM,
            lambda: stream(pa.table({f"{n}{'x' * 500}": [1.0] for n in range(10_000)})),
            id="five megabytes of names",
        ),
        pytest.param(
            Task.READ_STREAM, lambda: stream(pa.table({"a": np.zeros(50_000_000)}), compression="zstd"), id="stream"
        ),
        pytest.param(
            Task.READ_PARQUET,
            lambda: parquet(pa.table({"a": np.zeros(50_000_000)}), compression="zstd", use_dictionary=False),
            id="parquet",
        ),
    ],
)
def test_a_small_body_of_a_table_beyond_all_memory_is_refused(task, body):
    async def ask():
        async with running_codec() as codec:
            with pytest.raises(TooLarge, match="fewer rows"):
                await codec.read(task, body())
            await codec.read(Task.READ_STREAM, stream(TABLE))

    asyncio.run(ask())


def test_damaged_bodies_are_refused_and_the_next_one_is_read():
    """Some of them end the process: pyarrow 26 aborts on a Parquet file with a wrong histogram of levels."""
    draw = random.Random(7)

    async def ask():
        async with running_codec() as codec:
            for task, whole in [(Task.READ_STREAM, stream(TABLE)), (Task.READ_PARQUET, parquet(TABLE))] * 40:
                body = bytearray(whole)
                for _ in range(3):
                    body[draw.randrange(len(body))] = draw.randrange(256)
                try:
                    await codec.read(task, bytes(body))
                except (BadInput, TooLarge):
                    continue
            await codec.read(Task.READ_STREAM, stream(TABLE))

    asyncio.run(ask())


def test_a_codec_that_ends_is_replaced():
    async def ask():
        async with running_codec() as codec:
            first = await pid_of(codec)
            codec._line.process.kill()
            with pytest.raises(BadInput, match="ended the process"):
                await codec.read(Task.READ_STREAM, stream(TABLE))
            assert await pid_of(codec) != first

    asyncio.run(ask())


def test_a_codec_that_takes_too_long_is_ended():
    async def ask():
        async with running_codec(timeout_s=0.001) as codec:
            with pytest.raises(CodecTimedOut):
                await codec.read(Task.READ_STREAM, stream(TABLE))
            assert codec._line is None

    asyncio.run(ask())


def test_a_codec_is_confined_as_a_model_host_is(tmp_path, monkeypatch):
    def of_process(pid, name):
        return Path(f"/proc/{pid}/{name}").read_text()

    async def ask():
        async with running_codec(hidden=[tmp_path]) as codec:
            pid = await pid_of(codec)
            assert "NoNewPrivs:\t1" in of_process(pid, "status")
            assert "Seccomp:\t2" in of_process(pid, "status")
            assert "A_SECRET" not in of_process(pid, "environ")

    monkeypatch.setenv("A_SECRET", "anything")
    asyncio.run(ask())


def test_a_codec_ends_with_its_worker():
    script = """if True:
        import asyncio, os, signal
        from tests.gateway.columnar.test_codec import new_codec, pid_of
        async def begin():
            codec = new_codec()
            print(await pid_of(codec), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(begin())
    """
    worker = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    codec = psutil.Process(int(worker.stdout)) if psutil.pid_exists(int(worker.stdout)) else None
    if codec is not None:
        psutil.wait_procs([codec], timeout=10)
        assert not codec.is_running() or codec.status() == psutil.STATUS_ZOMBIE


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PyarrowMissing, match=r"titlebout\[arrow\]"):
        asyncio.run(new_codec().read(Task.READ_STREAM, b""))
