"""What a load test is of: which version, beside which other, in memory for as long as it takes, and how it is asked."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import msgspec
from rich.console import Console

from gateway.cli.client import Client, Refused
from gateway.cli.missing import instead_of
from gateway.load_testing.plan import LOAD_TEST
from gateway.load_testing.report import Input
from gateway.load_testing.running import CannotRun
from registry.entities import CHAMPION
from tracking.errors import InvalidParameter

_LOADED_WITHIN_S = 600.0
_POLL_S = 0.25
_INPUT_BYTES_MAX = 16 * 1024**2
_BODIES_MAX = 10_000


class Target(msgspec.Struct, frozen=True):
    model: str
    endpoint: str
    version: int
    against: int | None


class Inputs(msgspec.Struct, frozen=True):
    """Bodies of requests, JSON."""

    origin: Input
    bodies: list[str]


def find(client: Client, model: str, version: str, against: str | None, *, alone: bool) -> Target:
    """The version that is meant, by number or alias, and the one beside it: the champion's, unless another is said.

    Raises:
        CannotRun: if no endpoint answers for *model*.
        NothingThere: if there is no such version.
        InvalidParameter: if the one beside it is the same.
    """
    number = _resolve(client, model, version)
    endpoint = client.find_endpoint_of(model)
    if endpoint is None:
        raise CannotRun(f"Nothing answers for {model!r}: its first {CHAMPION} makes an endpoint.")
    champion = endpoint["serving"].get(CHAMPION)
    beside = _resolve(client, model, against) if against else None if alone else champion
    if against and beside == number:
        raise InvalidParameter(f"--against: version {number} would be compared with itself.")
    return Target(model, endpoint["name"], number, beside if beside != number else None)


def _resolve(client: Client, model: str, version: str) -> int:
    name = version.removeprefix("@")
    uri = f"models:/{model}/{name}" if name.isdecimal() else f"models:/{model}@{name}"
    try:
        return int(client.resolve(uri)["version"])
    except Refused as refused:
        raise instead_of(client, model, name if name.isdecimal() else f"@{name}", refused) from refused


@contextmanager
def in_memory(client: Client, console: Console, target: Target) -> Iterator[str]:
    """Keep what is tested in memory while the block runs; gives the digest of the bytes there.

    Raises:
        CannotRun: if a version isn't loaded, with the reason.
        Refused: if it is no arm, and may not be pinned.
    """
    pinned = []
    try:
        for version in filter(None, (target.version, target.against)):
            if not _is_there(client, target, version):
                client.pin(target.model, version)
                pinned.append(version)
                console.print(f"Version {version} is no arm of {target.endpoint}: pinned until the end of the test.")
        digests = {version: _until_loaded(client, target, version) for version in (target.version, *pinned)}
        yield digests[target.version]
    finally:
        for version in pinned:
            client.unpin(target.model, version)


def _is_there(client: Client, target: Target, version: int) -> bool:
    """Whether *version* is in memory, or will be, without our doing anything."""
    progress = client.progress(target.endpoint)
    return version in progress["desired"].values() or _digest(progress["replicas"], version) is not None


def _until_loaded(client: Client, target: Target, version: int) -> str:
    deadline = time.monotonic() + _LOADED_WITHIN_S
    while time.monotonic() < deadline:
        replicas = client.progress(target.endpoint)["replicas"]
        digest = _digest(replicas, version)
        if digest is not None:
            return digest
        for replica in replicas:
            for slot in replica["slots"]:
                if slot["version"] == version and slot["state"] == "FAILED":
                    raise CannotRun(f"Version {version} could not be loaded: {slot['reason']}")
        time.sleep(_POLL_S)
    raise CannotRun(f"Version {version} wasn't in memory within {_LOADED_WITHIN_S:g} s.")


def _digest(replicas: list[dict[str, list[dict[str, str | int]]]], version: int) -> str | None:
    """Of the bytes of *version* that are in memory, once they are everywhere, and the same."""
    found = {
        next((slot["digest"] for slot in replica["slots"] if _is_ready(slot, version)), None) for replica in replicas
    }
    return str(found.pop()) if len(found) == 1 and None not in found else None


def _is_ready(slot: dict[str, str | int], version: int) -> bool:
    return slot["version"] == version and slot["state"] == "READY"


def read_inputs(client: Client, target: Target, given: BinaryIO | None) -> Inputs:
    """What to ask: what was given, else the example saved with the version, else a row made from its signature.

    Raises:
        CannotRun: if nothing says what the version takes, or it refuses the first of them.
        InvalidParameter: if what was given isn't JSON, a body on each line.
    """
    if given is not None:
        inputs = Inputs(Input.GIVEN, _read_bodies(given))
    else:
        example = client.example(target.endpoint, target.version)
        if example["body"] is None:
            raise CannotRun("Nothing says what a request looks like: give some with --input.")
        inputs = Inputs(Input(example["origin"]), [msgspec.json.encode(example["body"]).decode()])
    for version in filter(None, (target.version, target.against)):
        try:
            client.ask_version(target.endpoint, version, inputs.bodies[0], LOAD_TEST)
        except Refused as refused:
            raise CannotRun(f"Version {version} doesn't answer: {refused.message}") from refused
    return inputs


def _read_bodies(given: BinaryIO) -> list[str]:
    content = given.read(_INPUT_BYTES_MAX + 1)
    if len(content) > _INPUT_BYTES_MAX:
        raise InvalidParameter(f"--input: at most {_INPUT_BYTES_MAX // 1024**2} MiB.")
    try:
        # One body may be spread over many lines, as people write it.
        return [msgspec.json.encode(msgspec.json.decode(content, type=dict[str, msgspec.Raw])).decode()]
    except msgspec.MsgspecError:
        pass
    bodies = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            bodies.append(msgspec.json.encode(msgspec.json.decode(line, type=dict[str, msgspec.Raw])).decode())
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidParameter(f"--input, line {number}: expected a JSON object, the body of a request.") from error
    if not 1 <= len(bodies) <= _BODIES_MAX:
        raise InvalidParameter(f"--input: expected 1 to {_BODIES_MAX} bodies, and found {len(bodies)}.")
    return bodies
