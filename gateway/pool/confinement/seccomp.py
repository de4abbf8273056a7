"""A filter on system calls, by which a Linux process gives up the network, and other processes' memory and limits.

For good; threads and children have it too. Refused calls raise PermissionError in Python. A connected socket pair,
which reaches only who holds its other end, is left; so is what was open before.
"""

import ctypes
import errno
import os
import socket
import sys

import msgspec

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2

# Classic BPF, of linux/bpf_common.h and linux/seccomp.h.
_LOAD = 0x20
_JUMP_IF_EQUAL = 0x15
_JUMP_IF_AT_LEAST = 0x35
_AND = 0x54
_RETURN = 0x06
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EACCES
# Where the filter finds them in struct seccomp_data, on a little-endian machine.
_CALL_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
# What of a socket's type isn't SOCK_CLOEXEC and the like.
_SOCKET_TYPES = 0xF
_X32_CALLS_FROM = 0x40000000


class _Machine(msgspec.Struct, frozen=True):
    """The kernel's numbers on one kind of processor (linux/audit.h, asm/unistd.h)."""

    architecture: int
    socketpair: int
    prlimit: int
    refused: tuple[int, ...]
    """socket, connect, io_uring_setup (a way around filters), ptrace, process_vm_readv and _writev, pidfd_getfd."""


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 53, 302, (41, 42, 425, 101, 310, 311, 438)),
    "aarch64": _Machine(0xC00000B7, 199, 261, (198, 203, 425, 117, 270, 271, 438)),
}


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("then", ctypes.c_uint8),
        ("otherwise", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


def enforce() -> None:
    """Give up sockets, for this thread and all that it starts from now on. It must want no new privileges by now.

    Raises:
        OSError: if the kernel refuses, or for a processor whose numbers we don't know.
    """
    machine = _MACHINES.get(os.uname().machine) if sys.platform == "linux" else None
    if machine is None:
        raise OSError(errno.ENOSYS, f"no filter is known for {os.uname().machine}")
    written = _filter(machine)
    instructions = (_Instruction * len(written))(*written)
    program = _Program(len(written), instructions)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _filter(machine: _Machine) -> list[_Instruction]:
    refuse, allow = _Instruction(_RETURN, 0, 0, _REFUSE), _Instruction(_RETURN, 0, 0, _ALLOW)
    # Calls of another architecture that the processor knows too have other numbers: none of them is let through.
    program = [
        _Instruction(_LOAD, 0, 0, _ARCHITECTURE),
        _Instruction(_JUMP_IF_EQUAL, 1, 0, machine.architecture),
        refuse,
    ]
    program += [_Instruction(_LOAD, 0, 0, _CALL_NUMBER), _Instruction(_JUMP_IF_AT_LEAST, 0, 1, _X32_CALLS_FROM), refuse]
    for number in machine.refused:
        program += [_Instruction(_JUMP_IF_EQUAL, 0, 1, number), refuse]
    # Limits of its own alone (pid 0): one on another's processor time would end it.
    program += [
        _Instruction(_JUMP_IF_EQUAL, 0, 4, machine.prlimit),
        _Instruction(_LOAD, 0, 0, _FIRST_ARGUMENT),
        _Instruction(_JUMP_IF_EQUAL, 1, 0, 0),
        refuse,
        allow,
    ]
    # A pair of datagram sockets could send to any name, connected or not.
    program += [
        _Instruction(_JUMP_IF_EQUAL, 1, 0, machine.socketpair),
        allow,
        _Instruction(_LOAD, 0, 0, _FIRST_ARGUMENT),
        _Instruction(_JUMP_IF_EQUAL, 1, 0, socket.AF_UNIX),
        refuse,
        _Instruction(_LOAD, 0, 0, _SECOND_ARGUMENT),
        _Instruction(_AND, 0, 0, _SOCKET_TYPES),
        _Instruction(_JUMP_IF_EQUAL, 2, 0, socket.SOCK_STREAM),
        _Instruction(_JUMP_IF_EQUAL, 1, 0, socket.SOCK_SEQPACKET),
        refuse,
        allow,
    ]
    return program
