"""Models share a bounded memory: what nobody needs leaves first, and what doesn't fit is refused with the figures."""

import re

import httpx
import pytest

from gateway.cli.client import Client
from tests.gateway.events import events, states_of
from tests.gateway.slow_models import takes_memory
from tests.gateway.test_cli import titlebout
from tests.gateway.test_serving import ask, wait_until, wait_until_served
from tests.training import register_function, set_alias

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MIB = 1024**2


def slot_of(url, version):
    slots = [slot for replica in Client(url).status()["replicas"] for slot in replica["slots"]]
    return next((slot for slot in slots if slot["version"] == version), None)


def state_of(url, version):
    slot = slot_of(url, version)
    return slot and slot["state"]


def pin(url, version):
    assert httpx.put(f"{url}/api/1.0/titlebout/pins/iris/{version}").is_success


def unpin(url, version):
    assert httpx.delete(f"{url}/api/1.0/titlebout/pins/iris/{version}").is_success


def test_a_pin_leaves_for_a_champion_and_what_does_not_fit_leaves_the_champion_alone(serve):
    server = serve(environment={"TITLEBOUT_MEMORY_BYTES_MAX": str(500 * MIB), "TITLEBOUT_RETRY_FIRST_S": "0.1"})
    url = server.url
    for answer, mebibytes in enumerate([150, 150, 150, 300]):
        register_function(url, "iris", takes_memory(answer, mebibytes))
    set_alias(url, "iris", "champion", 1)
    wait_until_served(url, "iris", champion=1)
    assert 150 * MIB < slot_of(url, 1)["memory_bytes"] < 300 * MIB
    pin(url, 2)
    wait_until(lambda: state_of(url, 2) == "READY")

    # There is no telling from its files what version 3 takes; it is found out before it serves.
    set_alias(url, "iris", "champion", 3)
    wait_until_served(url, "iris", champion=3)
    assert ask(url).json() == {"predictions": [2]}
    assert state_of(url, 2) == "UNLOADED"
    assert slot_of(url, 2)["reason"] == "It left memory to version 3 of 'iris'."
    assert ask(url, "iris/versions/2").status_code == 404

    set_alias(url, "iris", "champion", 4)
    (problem,) = wait_until(lambda: Client(url).endpoint("iris")["problems"])
    assert re.search(
        r"takes 3\d\d MiB of memory. Of the 500 MiB .*TITLEBOUT_MEMORY_BYTES_MAX.*, [23]\d\d MiB can be had", problem
    )
    assert Client(url).endpoint("iris")["desired"] == {"champion": 4}
    # Its pause would have been over many times, but there is no room that it could have.
    pin(url, 1)
    unpin(url, 2)
    wait_until(lambda: state_of(url, 2) is None)
    assert states_of(server, "iris", 4).count("FAILED") == 1
    assert ask(url).json() == {"predictions": [2]}
    assert titlebout("rollback", "iris", environment={"TITLEBOUT_URL": url}).returncode == 0
    wait_until_served(url, "iris", champion=3)


def test_a_pin_that_finds_no_room_comes_in_when_there_is_some_and_a_former_champion_makes_room(serve):
    server = serve(environment={"TITLEBOUT_MEMORY_BYTES_MAX": str(500 * MIB), "TITLEBOUT_RETRY_MAX_S": "600"})
    url = server.url
    for answer in range(3):
        register_function(url, "iris", takes_memory(answer, 150))
    set_alias(url, "iris", "champion", 1)
    wait_until_served(url, "iris", champion=1)
    pin(url, 2)
    wait_until(lambda: state_of(url, 2) == "READY")
    pin(url, 3)
    wait_until(lambda: state_of(url, 3) == "FAILED")
    assert "can be had beside those that are needed" in slot_of(url, 3)["reason"]
    # It takes nobody's place, not even that of its like.
    assert state_of(url, 2) == "READY"
    unpin(url, 2)
    wait_until(lambda: state_of(url, 3) == "READY")
    assert ask(url, "iris/versions/3").json() == {"predictions": [2]}

    # A former champion that is still warm leaves for the next one, and the one that serves doesn't.
    unpin(url, 3)
    wait_until(lambda: state_of(url, 3) != "READY")
    for version in (2, 3):
        set_alias(url, "iris", "champion", version)
        wait_until_served(url, "iris", champion=version)
    assert (state_of(url, 2), state_of(url, 3)) == ("READY", "READY")
    last = events(server, "slot_changed", model="iris", version=1)[-1]
    assert (last["state"], last["reason"]) == ("UNLOADED", "It left memory to version 3 of 'iris'.")
