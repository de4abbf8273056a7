"""The last table on disk: whole or the one before, and never a reason to stop."""

import logging

import pytest

from gateway.pool.saved_table import TableOnDisk
from registry.entities import Route, RoutingTable


def table(epoch):
    route = Route(
        id="e",
        name="iris",
        model="iris",
        salt="s",
        fallback=False,
        period=1,
        arms={"champion": epoch},
        owners=(("champion", 10_000),),
    )
    return RoutingTable(epoch=epoch, activate_at_ms=5, routes=(route,))


def test_what_was_kept_last_is_found_by_the_next_process(tmp_path):
    path = tmp_path / "state" / "table.json"
    on_disk = TableOnDisk(path)
    on_disk.keep(table(1), {("iris", 1): "a" * 64})
    on_disk.keep(table(2), {("iris", 2): "b" * 64})
    assert TableOnDisk(path).find() == (table(2), {("iris", 2): "b" * 64})


@pytest.mark.parametrize("content", [b"", b"{", b'{"table": 1}', b"\xff"])
def test_a_file_that_is_no_table_is_as_good_as_none(tmp_path, content):
    path = tmp_path / "table.json"
    assert TableOnDisk(path).find() is None
    path.write_bytes(content)
    assert TableOnDisk(path).find() is None


def test_a_disk_that_takes_nothing_is_said_once_and_tried_again(tmp_path, caplog):
    (tmp_path / "state").write_text("a file where a folder should be")
    on_disk = TableOnDisk(tmp_path / "state" / "table.json")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            on_disk.keep(table(1), {})
    assert [record.message for record in caplog.records] == ["table_not_saved"]
    (tmp_path / "state").unlink()
    on_disk.keep(table(1), {})
    assert on_disk.find() == (table(1), {})
