"""The memory that one model host may hold: watched by the supervisor from outside, and guarded inside."""

import asyncio
import contextlib
import resource
from pathlib import Path

_POLL_S = 1.0
_POLL_NEAR_S = 0.25
_KIB = 1024
# What the guard leaves beyond the bound: libraries ask for more address space than they ever touch, pyarrow for 1 GiB.
# A guard that came before the watch would leave a leaking model where it is, failing for good.
_GUARD_LEAVES_BYTES = 2 * 1024**3
_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd")
# Of -1000 to 1000: whom the kernel ends first when memory runs out. Rather a host than a worker or the supervisor.
_OOM_SCORE = "500"


def held_bytes(pid: int) -> int:
    """What *pid* and the processes that it started hold; 0 if they are gone.

    Their proportional set size: what is their own, and their part of what they share. So a host isn't charged with all
    of the libraries that it has from its warm parent, and can't hide what it shares with a child of its own.
    """
    return sum(_held_by_one(member) for member in family(pid))


async def until_over(pid: int, bytes_max: int) -> int:
    """Wait until *pid*, with what it started, holds more than *bytes_max*; what it holds then."""
    while True:
        # What is shared counts whole here, so this is never less, and reading it costs next to nothing.
        resident = sum(_resident_bytes(member) for member in family(pid))
        if resident > bytes_max:
            held = await asyncio.to_thread(held_bytes, pid)
            if held > bytes_max:
                return held
        await asyncio.sleep(_POLL_NEAR_S if 2 * resident > bytes_max else _POLL_S)


def guard_memory(bytes_max: int) -> None:
    """Have this process's allocations fail that go far beyond *bytes_max*.

    The watch looks now and then, and in between a process can take all of a machine's memory. A MemoryError comes
    first, and in a predict it costs one request and not the host. What the kernel can refuse is address space, which
    GPUs' drivers take without end; there the watch must do.
    """
    if any(Path(driver).exists() for driver in _GPU_DRIVERS):
        return
    taken = _read_bytes("/proc/self/status", "VmData")
    _limit(resource.RLIMIT_DATA, taken + bytes_max + max(bytes_max, _GUARD_LEAVES_BYTES))


def spare_others() -> None:
    """Have the kernel, when it must end somebody for want of memory, take this process; and keep no image of it."""
    _limit(resource.RLIMIT_CORE, 0)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def human(count: int) -> str:
    """Bytes for people: `310 MiB`, `2 GiB`."""
    return f"{count / 1024**3:.3g} GiB" if count >= 1024**3 else f"{count / 1024**2:.3g} MiB"


def _limit(what: int, wanted: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def family(pid: int) -> list[int]:
    """*pid* and all below it, as far as they can still be found."""
    members = [pid]
    for member in members:
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                members += [int(child) for child in children.read_text().split()]
    return members


def _held_by_one(pid: int) -> int:
    # Some kernels don't say; then whole is too much rather than too little.
    return _read_bytes(f"/proc/{pid}/smaps_rollup", "Pss") or _resident_bytes(pid)


def _resident_bytes(pid: int) -> int:
    return _read_bytes(f"/proc/{pid}/status", "VmRSS")


def _read_bytes(path: str, field: str) -> int:
    """The figure of *field*, which the kernel gives in KiB; 0 if the process is gone."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * _KIB for line in lines if line.startswith(f"{field}:")), 0)
