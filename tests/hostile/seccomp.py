"""A seccomp filter with a listener: Linux asks another process before this one starts, connects or writes.

`seccomp(2)`, `seccomp_unotify(2)`. Only the standard library: the filter is assembled here, and set through ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

ALLOW, NOTIFY, REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000  # REFUSE | errno
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CLONE_THREAD, AF_UNIX, AT_FDCWD = 0x10000, 1, -100
RECEIVE, SEND, NOTICE, GO_ON = 0xC0502100, 0xC0182101, "=QIIiIQ6Q", 1

# name -> (number on x86_64, number on aarch64); 0 where the machine has no such call
CALLS = {
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, 0), "vfork": (58, 0), "clone": (56, 220),
    "ptrace": (101, 117), "process_vm_writev": (311, 271), "io_uring_setup": (425, 425),
    "connect": (42, 203), "bind": (49, 200), "socket": (41, 198), "sendto": (44, 206),
    "open": (2, 0), "openat": (257, 56), "openat2": (437, 437), "creat": (85, 0),
    "rename": (82, 0), "renameat": (264, 38), "renameat2": (316, 276), "unlink": (87, 0), "unlinkat": (263, 35),
    "rmdir": (84, 0), "mkdir": (83, 0), "mkdirat": (258, 34), "symlink": (88, 0), "symlinkat": (266, 36),
    "link": (86, 0), "linkat": (265, 37), "truncate": (76, 45), "chmod": (90, 0), "fchmodat": (268, 53),
    "chown": (92, 0), "fchownat": (260, 54), "mknod": (133, 0), "mknodat": (259, 33),
}  # fmt: skip
STARTS = ("execve", "execveat", "fork", "vfork", "clone", "ptrace", "process_vm_writev", "io_uring_setup")
CONNECTS = ("connect", "bind", "socket", "sendto")
# Where the path of what is written stands among the arguments, after the folder that it is relative to (or no folder).
PATHS = {
    "open": (None, 0), "openat": (0, 1), "openat2": (0, 1), "creat": (None, 0), "rename": (None, 1), "renameat": (2, 3),
    "renameat2": (2, 3), "unlink": (None, 0), "unlinkat": (0, 1), "rmdir": (None, 0), "mkdir": (None, 0),
    "mkdirat": (0, 1), "symlink": (None, 1), "symlinkat": (1, 2), "link": (None, 1), "linkat": (2, 3),
    "truncate": (None, 0), "chmod": (None, 0), "fchmodat": (0, 1), "chown": (None, 0), "fchownat": (0, 1),
    "mknod": (None, 0), "mknodat": (0, 1),
}  # fmt: skip
# machine -> (column of CALLS, AUDIT_ARCH, number of seccomp, number of clone3)
MACHINES = {"x86_64": (0, 0xC000003E, 317, 435), "aarch64": (1, 0xC00000B7, 277, 435)}


@dataclass(frozen=True)
class Notice:
    """One call that waits for an answer."""

    id: int
    pid: int
    call: str
    arguments: tuple[int, ...]

    def path(self) -> str:
        """The absolute path that the call writes, read from its memory, the links of its folder followed."""
        folder, place = PATHS[self.call]
        text = _text_at(self.pid, self.arguments[place])
        where = ctypes.c_int(self.arguments[folder]).value if folder is not None else AT_FDCWD
        base = Path(f"/proc/{self.pid}/cwd" if where == AT_FDCWD else f"/proc/{self.pid}/fd/{where}").resolve()
        given = base / text
        return str(given.parent.resolve() / given.name)

    def address(self) -> str:
        """Where `connect`, `bind` or `sendto` goes: a host and port, or the path of a local socket."""
        place = 4 if self.call == "sendto" else 1
        if self.call == "socket" or not self.arguments[place]:
            return f"family {self.arguments[0]}"
        with Path(f"/proc/{self.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(self.arguments[place])
            raw = memory.read(min(self.arguments[place + 1] & 0xFF, 110))
        family = struct.unpack_from("=H", raw)[0]
        if family == AF_UNIX:
            return os.fsdecode(raw[2:3] + raw[3:].split(b"\0", 1)[0])
        if family == socket.AF_INET:
            return f"{socket.inet_ntoa(raw[4:8])}:{int.from_bytes(raw[2:4], 'big')}"
        return f"family {family}"


def available() -> bool:
    """Whether a filter with a listener can be set here: tried in a process of its own."""
    if not sys.platform.startswith("linux") or platform.machine() not in MACHINES:
        return False
    child = os.fork()
    if child == 0:
        try:
            os.close(install())
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def install() -> int:
    """Filter this process and what it starts, for good; the listener's file descriptor.

    Raises:
        OSError: the kernel has no seccomp, no listener, or does not allow it here.
    """
    column, arch, seccomp, clone3 = MACHINES[platform.machine()]
    code = _assemble(column, arch, clone3)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("=HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "prctl")
    listener = libc.syscall(seccomp, 1, 8, program)  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return listener


def receive(listener: int) -> Notice | None:
    """The next call that waits; None where its process has gone meanwhile."""
    raw = bytearray(80)
    try:
        fcntl.ioctl(listener, RECEIVE, raw)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    one, pid, _, number, _, _, *arguments = struct.unpack(NOTICE, raw)
    column = MACHINES[platform.machine()][0]
    call = next(name for name, numbers in CALLS.items() if numbers[column] == number)
    return Notice(one, pid, call, tuple(arguments))


def answer(listener: int, notice: Notice, *, allow: bool) -> None:
    """Let the call happen, or make it fail with EPERM."""
    reply = (
        struct.pack("=QqiI", notice.id, 0, 0, GO_ON) if allow else struct.pack("=QqiI", notice.id, 0, -errno.EPERM, 0)
    )
    try:
        fcntl.ioctl(listener, SEND, bytearray(reply))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _assemble(column: int, arch: int, clone3: int) -> bytes:
    load, equal, any_of, done = 0x20, 0x15, 0x45, 0x06

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    def argument(index: int) -> bytes:
        return step(load, 16 + 8 * index)  # the lower half

    out = step(load, 4) + step(equal, arch, 1, 0) + step(done, REFUSE | errno.EPERM) + step(load, 0)
    # glibc falls back to clone, whose flags can be seen: those of clone3 are behind a pointer.
    out += step(equal, clone3, 0, 1) + step(done, REFUSE | errno.ENOSYS)
    # What a thread, a local socket and opening for reading need goes on unseen.
    tests = {
        "clone": argument(0) + step(any_of, CLONE_THREAD, 1, 0),
        "socket": argument(0) + step(equal, AF_UNIX, 1, 0),
        "sendto": argument(4) + step(equal, 0, 1, 0),
        "open": argument(1) + step(any_of, WRITES, 0, 1),
        "openat": argument(2) + step(any_of, WRITES, 0, 1),
    }
    for name, numbers in CALLS.items():
        if numbers[column]:
            body = tests.get(name, b"") + step(done, NOTIFY) + step(done, ALLOW)
            out += step(equal, numbers[column], 0, len(body) // 8) + body
    return out + step(done, ALLOW)


def _text_at(pid: int, address: int) -> str:
    """The text that ends with a zero byte in the memory of another process."""
    text = b""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        while b"\0" not in text and len(text) < 4096:
            at = address + len(text)
            memory.seek(at)
            text += memory.read(4096 - at % 4096)  # never beyond the page: the next one may be missing
    return os.fsdecode(text.split(b"\0", 1)[0])
