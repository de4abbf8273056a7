"""What a model host gives up before any code of a model runs: sockets, files that aren't its own, privileges.

As much as the kernel allows, by its own means: Landlock for files, a filter on system calls for sockets. There is no
way back, and whatever the host starts is as confined. docs/decisions/0012 says what this promises and what not.
"""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from gateway.pool.confinement import capabilities, landlock, seccomp
from gateway.pool.confinement.landlock import Access
from gateway.settings import Confinement
from tracking.errors import ErrorCode, ServingError

_OPEN = "open"
_WRITING = (
    Access.WRITE_FILE
    | Access.TRUNCATE
    | Access.MAKE_REG
    | Access.MAKE_DIR
    | Access.MAKE_SYM
    | Access.MAKE_FIFO
    | Access.MAKE_SOCK
    | Access.REMOVE_FILE
    | Access.REMOVE_DIR
    | Access.REFER
)
# Nothing makes a device, and no device that isn't given below takes orders.
_GIVEN_UP = _WRITING | Access.READ_FILE | Access.MAKE_CHAR | Access.MAKE_BLOCK | Access.IOCTL_DEV
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
# POSIX semaphores lie there, without which neither multiprocessing nor joblib starts a process.
_SHARED_MEMORY = "/dev/shm"  # noqa: S108  (the kernel's name for it)
_GPUS = ("/dev/nvidia*", "/dev/dri", "/dev/kfd")
# Folders of packages in which our own modules lie, of which more may be imported later.
_OUR_PACKAGES = ("gateway", "loaders", "registry", "tracking")


class ConfinementIncomplete(ServingError):
    """This kernel can't confine a host as it was told to be."""

    code = ErrorCode.INVALID_STATE

    def __init__(self, missing: list[str]) -> None:
        super().__init__(
            f"TITLEBOUT_HOST_CONFINEMENT=required, and this kernel can't keep a model's process from {missing[0]}"
            f"{''.join(f' or {what}' for what in missing[1:])}; docs/operations.md says what it needs."
        )


class Confined(msgspec.Struct, frozen=True):
    """What is in force in a host, in words for people; `open` is nothing."""

    files: str = _OPEN
    network: str = _OPEN


def confine(mode: Confinement, *, own: Iterable[Path], readable: Iterable[Path], hidden: Iterable[str]) -> Confined:
    """Confine this process: it writes to the folders *own* alone, and of *hidden* reads those and *readable* alone.

    It must have one thread. Listening sockets that it needs must be there.

    Raises:
        ConfinementIncomplete: if *mode* is `required` and the kernel lacks something.
    """
    if mode is Confinement.OFF:
        return Confined()
    capabilities.want_no_more()
    abi = landlock.find_abi()
    files = abi > 0 and _kept_from_files(abi, _rules(own, readable, [Path(path) for path in hidden]))
    capabilities.drop()
    sockets = _kept_from_sockets()
    if mode is Confinement.REQUIRED and not (files and sockets):
        kept = {"other files": files, "the network": sockets}
        raise ConfinementIncomplete([what for what, is_kept in kept.items() if not is_kept])
    tcp = f"landlock ABI {abi}, TCP alone" if files and landlock.covers_tcp(abi) else _OPEN
    return Confined(files=f"landlock ABI {abi}" if files else _OPEN, network="seccomp" if sockets else tcp)


def _kept_from_files(abi: int, rules: dict[str, Access]) -> bool:
    try:
        landlock.enforce(abi, _GIVEN_UP, rules)
    except OSError:
        return False
    return True


def _kept_from_sockets() -> bool:
    try:
        seccomp.enforce()
    except OSError:
        return False
    return True


def _rules(own: Iterable[Path], readable: Iterable[Path], hidden: list[Path]) -> dict[str, Access]:
    """What stays allowed, by path. Rules add up along a path, so one for a folder is one for all in it."""
    rules = dict.fromkeys(around(hidden), Access.READ_FILE)
    for path in [*code_folders(hidden), *readable]:
        rules[str(path.resolve())] = Access.READ_FILE
    for device in _DEVICES:
        rules[device] = Access.READ_FILE | Access.WRITE_FILE
    for path in [Path(_SHARED_MEMORY), *own]:
        rules[str(path.resolve())] = Access.READ_FILE | _WRITING
    for pattern in _GPUS:
        for device in glob.glob(pattern):  # noqa: PTH207  (patterns from the root)
            rules[device] = Access.READ_FILE | Access.WRITE_FILE | Access.IOCTL_DEV
    return rules


def around(hidden: Iterable[Path]) -> Iterator[str]:
    """Paths that hold, together and with all in them, whatever there is but *hidden*: what lies beside the way to each.

    Landlock knows no exceptions, so what is to be hidden is left out.
    """
    left_out = {str(path) for path in hidden}
    on_the_way = {str(parent) for path in left_out for parent in Path(path).parents}

    def beside(folder: str) -> Iterator[str]:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            return
        for entry in entries:
            if entry.path in left_out or entry.is_symlink():
                continue
            if entry.path in on_the_way:
                yield from beside(entry.path)
            else:
                yield entry.path

    yield from beside("/")


def code_folders(hidden: Iterable[Path]) -> list[Path]:
    """Where modules come from, even if it lies in a hidden folder; but no folder that holds a hidden one."""
    ours = [path for name in _OUR_PACKAGES if name in sys.modules for path in sys.modules[name].__path__]
    folders = {Path(name).resolve() for name in [sys.prefix, sys.base_prefix, *sys.path, *ours] if name}
    concealed = list(hidden)
    return [folder for folder in folders if not any(path.is_relative_to(folder) for path in concealed)]
