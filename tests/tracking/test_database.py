"""How a database that is gone is noticed."""

import socket

import pytest

from tracking.database import Database


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux's")
def test_a_postgresql_that_is_not_heard_any_more_is_given_up_within_seconds(migrated_postgres):
    database = Database(migrated_postgres)
    with database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        with socket.fromfd(driver.fileno(), socket.AF_INET, socket.SOCK_STREAM) as line:
            assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
            probes = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            idle_s, interval_s, count = (line.getsockopt(socket.IPPROTO_TCP, option) for option in probes)
            assert idle_s + interval_s * count == 10
    database.dispose()
