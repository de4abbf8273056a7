"""Landlock, by which a Linux process gives up files, TCP and signals, for good and for all that it starts.

After linux/landlock.h. What to give up is decided elsewhere.
"""

import contextlib
import ctypes
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from enum import IntFlag
from functools import lru_cache

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # The same numbers on every machine that has them.
_WHICH_VERSION = 1
_PATH_BENEATH = 1
_TCP_BIND_AND_CONNECT = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11


class Access(IntFlag):
    """What can be done with files (linux/landlock.h, LANDLOCK_ACCESS_FS_*)."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_SINCE_ABI = {Access.REFER: 2, Access.TRUNCATE: 3, Access.IOCTL_DEV: 5}
_TCP_SINCE_ABI = 4
_SCOPES_SINCE_ABI = 6
# All that a rule for something other than a folder may name.
_OF_FILES = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


def find_abi() -> int:
    """What this kernel's Landlock can do, by the number of its interface; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    try:
        return _call(_CREATE_RULESET, None, 0, _WHICH_VERSION)
    except OSError:
        return 0


def covers_tcp(abi: int) -> bool:
    return abi >= _TCP_SINCE_ABI


def enforce(abi: int, given_up: Access, rules: Mapping[str, Access]) -> None:
    """Give up *given_up* but below the paths of *rules*, all TCP, and signals to processes that aren't below this one.

    What *abi* doesn't know is left out. Files that are open stay so. The calling thread must be the only one, and must
    have said before that it wants no new privileges.

    Raises:
        OSError: if the kernel refuses.
    """
    given_up &= ~_unknown_to(abi)
    attributes = _RulesetAttributes(
        files=given_up,
        tcp=_TCP_BIND_AND_CONNECT if covers_tcp(abi) else 0,
        scopes=_ABSTRACT_SOCKETS_AND_SIGNALS if abi >= _SCOPES_SINCE_ABI else 0,
    )
    ruleset = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    try:
        for path, access in rules.items():
            # A path that is gone, or never was, needs no rule.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError), _opened(path) as file:
                _add_rule(ruleset, file, access & given_up)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _unknown_to(abi: int) -> Access:
    unknown = Access(0)
    for access, since in _SINCE_ABI.items():
        if abi < since:
            unknown |= access
    return unknown


def _add_rule(ruleset: int, file: int, access: Access) -> None:
    if not stat.S_ISDIR(os.fstat(file).st_mode):
        access &= _OF_FILES
    if access:
        rule = _PathBeneath(access=access, parent=file)
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    # The link itself and not what it leads to, which is judged by its own path.
    file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def _call(number: int, *arguments: object) -> int:
    # Variadic, so that each number must be given the width of a register.
    wide = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = _library().syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)
