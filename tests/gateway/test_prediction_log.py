"""Lines of predictions: their form, and what becomes of them when nobody takes them."""

import asyncio
import json
import os
import re
import threading

from gateway.observability.metrics import Number
from gateway.observability.prediction_log import PredictionLog
from gateway.routing_table import Choice

CHOICE = Choice("flowers", "iris", 3, "champion", 9)
FIELDS = [
    "time", "level", "event", "logger", "request_id", "protocol", "status", "rows", "took_ms",
    "endpoint", "arm", "model", "version", "epoch",
]  # fmt: skip


def written(predictions, *, as_text=False):
    """What (choice, status) pairs come to, through a real pipe."""

    async def scenario():
        log = PredictionLog(write_end, as_text=as_text, dropped=Number())
        for choice, status in predictions:
            log.predicted(choice, request_id="r-1", protocol="mlflow", status=status, rows=2, took_s=0.0123456)
        log.close()
        os.close(write_end)

    read_end, write_end = os.pipe()
    asyncio.run(scenario())
    with os.fdopen(read_end, encoding="utf-8") as pipe:
        return pipe.read().splitlines()


def test_a_line_is_one_json_object_with_its_fields_in_order():
    answered, refused = map(json.loads, written([(CHOICE, 200), (None, 404)]))
    assert list(answered) == FIELDS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answered.pop("time"))
    assert list(answered.values()) == [
        "INFO", "predicted", "gateway.api.scoring.walk", "r-1", "mlflow", 200, 2, 12.346,
        "flowers", "champion", "iris", 3, 9,
    ]  # fmt: skip
    assert (refused["event"], list(refused)) == ("prediction_refused", FIELDS[:9])


def test_a_line_says_which_bucket_gave_the_request_to_its_arm_if_one_did_and_whether_that_failed():
    async def scenario():
        log = PredictionLog(write_end, as_text=False, dropped=Number())
        for bucket, failed in ((0, None), (4449, "challenger"), (None, None)):
            log.predicted(CHOICE, bucket, failed, request_id="r", protocol="mlflow", status=200, rows=1, took_s=0.1)
        log.close()
        os.close(write_end)

    read_end, write_end = os.pipe()
    asyncio.run(scenario())
    with os.fdopen(read_end, encoding="utf-8") as pipe:
        lines = [json.loads(line) for line in pipe]
    assert [line.get("bucket") for line in lines] == [0, 4449, None]
    assert [line.get("fallback_from") for line in lines] == [None, "challenger", None]


def test_as_text_a_line_is_for_people():
    (line,) = written([(CHOICE, 200)], as_text=True)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d INFO    predicted request_id=r-1 protocol=mlflow status=200 rows=2 took_ms=12\.346 "
        r"endpoint=flowers arm=champion model=iris version=3 epoch=9",
        line,
    )


def test_lines_leave_by_themselves_and_whole():
    async def scenario():
        log = PredictionLog(write_end, as_text=False, dropped=Number())
        for _ in range(1000):
            log.predicted(CHOICE, request_id="r", protocol="mlflow", status=200, rows=1, took_s=0.1)
        lines = await asyncio.to_thread(lambda: [json.loads(pipe.readline()) for _ in range(1000)])
        log.close()
        return lines

    read_end, write_end = os.pipe()
    with os.fdopen(read_end, encoding="utf-8") as pipe:
        assert len(asyncio.run(scenario())) == 1000
    os.close(write_end)


def test_where_nobody_takes_them_lines_are_dropped_and_counted():
    async def scenario():
        dropped = Number()
        log = PredictionLog(write_end, as_text=False, dropped=dropped, bytes_max=1000)
        for _ in range(100):
            log.predicted(CHOICE, request_id="r", protocol="mlflow", status=200, rows=1, took_s=0.1)
        kept = len(log._lines)
        reader.start()
        log.close()
        os.close(write_end)
        return dropped.value, kept

    read_end, write_end = os.pipe()
    taken = []
    with os.fdopen(read_end, encoding="utf-8") as pipe:
        reader = threading.Thread(target=lambda: taken.extend(pipe.read().splitlines()))
        dropped, kept = asyncio.run(scenario())
        reader.join(20)
    assert dropped > 90
    assert kept < 1300
    assert len(taken) + dropped == 100
