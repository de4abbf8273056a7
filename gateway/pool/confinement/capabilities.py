"""What makes root more than another user, and how a process lets go of it."""

import ctypes
import os
import sys

_VERSION_3 = 0x20080522
_PR_SET_NO_NEW_PRIVS = 38
# To read what root may read, whoever owns it: libraries in somebody's home, say. Landlock still decides.
_CAP_DAC_READ_SEARCH = 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def want_no_more() -> None:
    """No program that is started from here gets privileges that this process hasn't, whatever bits its file has."""
    if sys.platform == "linux":
        _check(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def drop() -> None:
    """Keep none but the one for reading, where this process has it."""
    if sys.platform != "linux":
        return
    library = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()
    _check(library.capget(ctypes.byref(header), ctypes.byref(sets)))
    kept = sets[0].permitted & (1 << _CAP_DAC_READ_SEARCH)
    _check(library.capset(ctypes.byref(header), ctypes.byref((_Sets * 2)(_Sets(kept, kept, 0)))))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
