"""What the supervisor, its workers and its model hosts say to each other: one JSON object a line."""

import asyncio
import socket
from typing import TypeVar

import msgspec

from gateway.settings import Confinement
from loaders.code_policy import UNCHECKED
from registry.entities import PredictionKey, RoutingTable, VersionKey
from tracking.access.book import Book

T = TypeVar("T")

LINE_BYTES_MAX = 64 * 1024**2
"""A routing table of ten thousand endpoints is a few MiB."""


class ModelDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What a host tells about the model that it has loaded."""

    flavor: str
    predictor: str
    predictor_reason: str = ""
    """Why it is this one and not a faster; empty where there is nothing to say."""
    batchable: bool
    mlmodel: str
    """The MLmodel file as it was read, from which a worker takes the signature."""
    example: str = ""
    """The body of a request that was saved with the model, as JSON; empty where there is none, or a long one."""
    warnings: list[str] = []
    confinement: dict[str, str] = {}
    """What its host is held to, by what: files, network, memory, threads."""


class HostAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A version in memory and the Unix socket where it answers."""

    model: str
    version: int
    socket: str
    description: ModelDescription

    @property
    def key(self) -> VersionKey:
        return self.model, self.version


# --- supervisor to worker


class Hosts(msgspec.Struct, frozen=True, tag=True):
    """All hosts a worker should be connected to; one that is missing is to be drained and left."""

    hosts: list[HostAddress]


class Switch(msgspec.Struct, frozen=True, tag=True):
    """Answer from *table* from the instant *at_s* (this machine's epoch seconds) on."""

    table: RoutingTable
    at_s: float


class Freshness(msgspec.Struct, frozen=True, tag=True):
    """When the database was last heard of, if it is away now."""

    stale_since_s: float | None


class Admission(msgspec.Struct, frozen=True, tag=True):
    """Who may come in, in the place of what was said before."""

    book: Book


class Signing(msgspec.Struct, frozen=True, tag=True):
    """The key that ids of predictions are signed with from now on."""

    key: PredictionKey | None


class Begin(msgspec.Struct, frozen=True, tag=True):
    """All that is known has been said: connect, and take requests."""


class Notice(msgspec.Struct, frozen=True, tag=True):
    """The replica is about to stop: say so to who asks for readiness, send connections elsewhere, and answer on."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Accept nothing more, finish what was asked, keep idle connections for *idle_grace_s* at most, and end."""

    idle_grace_s: float


ToWorker = Hosts | Switch | Freshness | Admission | Signing | Begin | Notice | Drain


# --- worker to supervisor


class Serving(msgspec.Struct, frozen=True, tag=True):
    """The worker accepts connections."""


class Leaving(msgspec.Struct, frozen=True, tag=True):
    """Somebody asked this worker to end. It goes on until it is told to drain, which is when another serves."""


class Connected(msgspec.Struct, frozen=True, tag=True):
    """All hosts the worker is connected to, by socket."""

    sockets: list[str]


class Switched(msgspec.Struct, frozen=True, tag=True):
    """The worker answers from this epoch now."""

    epoch: int


class Stuck(msgspec.Struct, frozen=True, tag=True):
    """The host at *socket* let a request run into its time-out."""

    socket: str


class Broken(msgspec.Struct, frozen=True, tag=True):
    """The host at *socket* sent what is no frame, or no answer to anything that it was asked."""

    socket: str


class Used(msgspec.Struct, frozen=True, tag=True):
    """The hosts that the worker has asked since it last said so."""

    sockets: list[str]


ToSupervisor = Serving | Leaving | Connected | Switched | Stuck | Used | Broken


# --- supervisor to warm parent, and host to supervisor


class Spawn(msgspec.Struct, frozen=True, kw_only=True):
    """A host to be, and the version that it is to hold."""

    model: str
    version: int
    model_dir: str
    socket: str
    code_policy: str
    verified: bool
    unsigned: str | None = UNCHECKED
    """Why no trusted key vouches for the version's files; None if one does."""
    frame_bytes_max: int
    acceleration: bool = False
    """Whether to look for a faster predictor, and prove it, while the model loads."""
    acceleration_timeout_s: float = 20.0
    converted_dir: str | None = None
    """Where converted models are kept: this version's own folder, the one place beside scratch that a host writes."""


class Restraints(msgspec.Struct, frozen=True, kw_only=True):
    """What hosts are held to, all those of a run alike."""

    confinement: Confinement
    hidden: tuple[str, ...] = ()
    """Files and folders that a host may not read, but for its own in them."""
    memory_bytes_max: int = 0
    """0 is no bound."""
    threads: int = 0
    """0 leaves it to the flavor."""


class Fork(msgspec.Struct, frozen=True, kw_only=True):
    """Fork a host. The socket that comes with this is the new host's line to the supervisor."""

    spawn: Spawn
    scratch: str
    """The host's own folder, gone with it."""
    restraints: Restraints
    gives_way: bool
    """Whether its load leaves the processors to others; the supervisor brings it back when it is ready."""


class Loading(msgspec.Struct, frozen=True, tag=True):
    pid: int


class Warming(msgspec.Struct, frozen=True, tag=True):
    pass


class Ready(msgspec.Struct, frozen=True, tag=True):
    description: ModelDescription


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The load or the warm-up didn't work; *reason* is for people."""

    reason: str
    lacks_signature: bool = False
    """A trusted key's signature is all that is missing."""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The last word, by the warm parent: the host has ended, with *status* as `os.waitstatus_to_exitcode` gives it."""

    status: int


FromHost = Loading | Warming | Ready | Failed | Ended


def encode_line(message: msgspec.Struct) -> bytes:
    return msgspec.json.encode(message) + b"\n"


async def open_line(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A line to the process at the other end of *sock*."""
    return await asyncio.open_connection(sock=sock, limit=LINE_BYTES_MAX)


async def receive(reader: asyncio.StreamReader, decoder: msgspec.json.Decoder[T]) -> T | None:
    """The next message, or None when the other end is gone."""
    try:
        line = await reader.readline()
    except (ConnectionError, ValueError):
        # ValueError: a line over the bound. Whoever sends that isn't one of ours in its right mind.
        return None
    return decoder.decode(line) if line.endswith(b"\n") else None
