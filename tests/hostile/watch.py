"""Run one thing in a forked process and see from outside what it starts, connects to, writes and leaves behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import select
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.hostile import seccomp

WALL_SECONDS, MEMORY = 90, 6 << 30
NAME_SERVICE = ("/var/run/nscd/socket",)  # the C library asks for user names
FOLDERS = ("home", "work", "files", "canary", "temporary")


@dataclass
class Seen:
    """What was seen of one process. Every entry is a text for a person; no entry, nothing seen."""

    watch: str = ""
    status: int = 0
    signal: int = 0
    seconds: float = 0.0
    memory: int = 0
    out: str = ""
    err: str = ""
    started: list[str] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)
    wrote: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    def effects(self, allowed: tuple[str, ...] = ()) -> list[str]:
        """Everything that the process did to the world, but for what is in a folder or file of `allowed`."""
        files = {
            path for path in (*self.wrote, *self.changed) if not any(Path(path).is_relative_to(one) for one in allowed)
        }
        return [*self.started, *self.connected, *sorted(files)]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def folders(root: Path) -> None:
    """The places that are compared before and after: a home, a working directory, the files, a canary, TMPDIR."""
    for name in FOLDERS:
        (root / name).mkdir(parents=True, exist_ok=True)


def watched(
    root: Path, task: Callable[[], int], mode: str, environment: dict[str, str], seconds: int, starts: int = 0
) -> Seen:
    """Run `task` in a fork of this process, in `root`/work, and see what it does.

    `mode` is "seccomp" or "audit" (Python's audit hooks and the comparison of folders alone). Starting and connecting
    is refused and reported, but for the first `starts` programs that take the place of the process; so is writing
    anywhere but below `root`. The process has `seconds` of the processor.
    """
    before = picture(root)
    ours, theirs = socket.socketpair()
    began = time.monotonic()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _child(root, task, mode, environment, theirs, seconds)
    theirs.close()
    seen = Seen(watch=mode)
    ended = _supervise(pid, ours, root, seen, starts)
    seen.seconds, seen.memory = time.monotonic() - began, ended[2].ru_maxrss
    seen.signal = os.WTERMSIG(ended[1]) if os.WIFSIGNALED(ended[1]) else 0
    seen.status = -seen.signal if seen.signal else os.WEXITSTATUS(ended[1])
    seen.out, seen.err = ((root / name).read_text(errors="replace") for name in ("out", "err"))
    after = picture(root)
    seen.changed = [
        str(root / name) for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)
    ]
    return seen


def picture(root: Path) -> dict[str, str]:
    """Every entry of the watched folders: its kind, mode, and the digest of its bytes or the end of its link."""
    found = {}
    for top in FOLDERS:
        for folder, names, files in os.walk(root / top):
            for path in (Path(folder) / name for name in (*names, *files)):
                state = path.lstat()
                body = ""
                if stat.S_ISLNK(state.st_mode):
                    body = str(path.readlink())
                elif stat.S_ISREG(state.st_mode):
                    body = hashlib.sha256(path.read_bytes()).hexdigest()
                found[str(path.relative_to(root))] = f"{stat.S_IFMT(state.st_mode)} {state.st_mode:o} {body}"
    return found


def _child(
    root: Path, task: Callable[[], int], mode: str, environment: dict[str, str], out: socket.socket, seconds: int
) -> None:
    """In the fork: scratch places, limits, the watch, then the task. Never returns."""
    status = 99
    try:
        for number, name in ((1, "out"), (2, "err")):
            handle = os.open(root / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, number)
            os.close(handle)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(root / "work")
        os.environ.update(HOME=str(root / "home"), TMPDIR=str(root / "temporary"), **environment)
        tempfile.tempdir = None  # TMPDIR is another one now
        sys.path.insert(0, str(root / "work"))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY + _mapped(), MEMORY + _mapped()))
        if mode == "seccomp":
            listener = seccomp.install()
            socket.send_fds(out, [b"x"], [listener])
            os.close(listener)
        else:
            _audit(out)
        status = task()
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
    except BaseException as error:  # noqa: BLE001 (a control may fail after it did what it does)
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 0xFF)


def _mapped() -> int:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _supervise(
    pid: int, ours: socket.socket, root: Path, seen: Seen, starts: int
) -> tuple[int, int, resource.struct_rusage]:
    """Answer the calls of a process until it ends; one that takes too long is ended."""
    listener, text = -1, b""
    if seen.watch == "seccomp":
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        listener = descriptors[0] if descriptors else -1
    source = listener if listener >= 0 else ours.fileno()
    poll = select.poll()
    poll.register(source, select.POLLIN)
    until = time.monotonic() + WALL_SECONDS
    killed = False
    while True:
        ended = os.wait4(pid, os.WNOHANG)
        if ended[0]:
            break
        if time.monotonic() > until and not killed:
            os.kill(pid, signal.SIGKILL)
            killed = True
        for _, event in poll.poll(20):
            if event & select.POLLIN and listener >= 0:
                starts -= _decide(listener, root, seen, starts)
            elif event & select.POLLIN:
                text += os.read(source, 65536)
            if event & select.POLLHUP:
                poll.unregister(source)
    if listener >= 0:
        os.close(listener)
    else:
        text += b"".join(iter(lambda: os.read(source, 65536), b""))
        for line in text.decode(errors="replace").splitlines():
            kind, _, what = line.partition(" ")
            {"start": seen.started, "connect": seen.connected}.get(kind, seen.wrote).append(what)
    ours.close()
    return ended


def _decide(listener: int, root: Path, seen: Seen, starts: int) -> bool:
    """Answer one call and note it; whether it was one of the programs that may start."""
    notice = seccomp.receive(listener)
    if notice is None:
        return False
    allow = started = False
    if notice.call in seccomp.STARTS:
        allow = started = notice.call == "execve" and starts > 0
        if not started:
            seen.started.append(f"process: {notice.call}")
    elif notice.call in seccomp.CONNECTS:
        if (address := notice.address()) not in NAME_SERVICE:
            seen.connected.append(f"connection: {notice.call} {address}")
    else:
        path = Path(notice.path())
        allow = str(path) in ("/dev/null", "/dev/tty") or path.is_relative_to(root)
        # Lock files of tqdm (multiprocessing) are refused, which it takes well.
        quiet = str(path) == "/dev/null" or path.is_relative_to(root / "temporary") or path.match("/dev/shm/sem.*")
        if not quiet:
            seen.wrote.append(str(path))
    seccomp.answer(listener, notice, allow=allow)
    return started


def _audit(out: socket.socket) -> None:
    """Without seccomp: Python's own events, which C++ does not raise. Folders are compared in any case."""
    starts = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in starts:
            out.send(f"start process: {event}\n".encode())
            raise PermissionError(event)
        if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
            out.send(f"connect connection: {event}\n".encode())
            raise PermissionError(event)

    sys.addaudithook(hook)
