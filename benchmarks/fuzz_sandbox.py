"""A process that may read and compute, and no more: seccomp on Linux, through ctypes; elsewhere there is none.

Starting a process and connecting end the process (SIGSYS); opening for writing, renaming, removing and linking fail
with EPERM. ``seccomp(2)``; the filter is a program of classic BPF over ``struct seccomp_data``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_THREAD = 0x10000
# number on x86_64, number on aarch64; -1: the machine has no such call
_ENDS = {"execve": (59, 221), "execveat": (322, 281), "fork": (57, -1), "vfork": (58, -1), "connect": (42, 203),
         "bind": (49, 200), "ptrace": (101, 117), "sendto": (44, 206)}  # fmt: skip
_FAILS = {"creat": (85, -1), "rename": (82, -1), "renameat": (264, 38), "renameat2": (316, 276), "unlink": (87, -1),
          "unlinkat": (263, 35), "rmdir": (84, -1), "mkdir": (83, -1), "mkdirat": (258, 34), "symlink": (88, -1),
          "symlinkat": (266, 36), "link": (86, -1), "linkat": (265, 37), "truncate": (76, 45), "mknod": (133, -1),
          "mknodat": (259, 33), "chmod": (90, -1), "fchmodat": (268, 53)}  # fmt: skip
_UNKNOWN = {"clone3": (435, 435), "openat2": (437, 437), "io_uring_setup": (425, 425)}  # libraries then use the older
_OPENS = {"openat": (257, 56, 2), "open": (2, -1, 1)}  # and which argument holds the flags
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


def available() -> bool:
    """Whether such a process can be had here: tried in a child."""
    if not sys.platform.startswith("linux") or platform.machine() not in _MACHINES:
        return False
    child = os.fork()
    if child == 0:
        try:
            enter()
            os.open(os.devnull, os.O_WRONLY)
        except PermissionError:
            os._exit(0)
        except BaseException:
            os._exit(1)
        os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def enter() -> None:
    """Make this process such a one, for good.

    Raises:
        OSError: the kernel does not allow it.
    """
    column, machine = _MACHINES[platform.machine()]
    code = [_op(0x20, 4), _op(0x15, machine, 1, 0), _op(0x06, _KILL), _op(0x20, 0)]
    for table, answer in ((_ENDS, _KILL), (_FAILS, _FAIL | errno.EPERM), (_UNKNOWN, _FAIL | errno.ENOSYS)):
        for numbers in table.values():
            if numbers[column] >= 0:
                code += [_op(0x15, numbers[column], 0, 1), _op(0x06, answer)]
    for *numbers, argument in _OPENS.values():
        if numbers[column] >= 0:
            code += [_op(0x15, numbers[column], 0, 4), _op(0x20, 16 + 8 * argument), _op(0x45, _WRITES, 0, 1),
                     _op(0x06, _FAIL | errno.EPERM), _op(0x06, _ALLOW)]  # fmt: skip
    clone = (56, 220)[column]
    code += [_op(0x15, clone, 0, 3), _op(0x20, 16), _op(0x45, _THREAD, 1, 0), _op(0x06, _KILL), _op(0x06, _ALLOW)]
    content = b"".join(code)
    buffer = ctypes.create_string_buffer(content, len(content))
    program = struct.pack("=HxxxxxxQ", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        raise OSError(ctypes.get_errno(), "seccomp")


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
