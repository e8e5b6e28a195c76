"""The watch sees what a process does, and nothing where it does nothing."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from tests.hostile.bench import Bench

# name -> (Python in the watched process, part of what must be seen). {root} is its place, {out} a file outside of it.
DEEDS = {
    "open": ("open('{root}/canary/x', 'w').write('x')", "canary/x"),
    "append": ("open('{root}/work/canary.py', 'a').write('#')", "work/canary.py"),
    "home": ("open(os.path.expanduser('~/.profile'), 'w')", "home/.profile"),
    "outside": ("open('{out}', 'w')", "{out}"),
    "relative": ("os.chdir('{root}'); open('canary/x', 'w')", "canary/x"),
    "mkdir": ("os.mkdir('{root}/home/x')", "home/x"),
    "remove": ("os.remove('{root}/work/canary.py')", "work/canary.py"),
    "rename": ("os.rename('{root}/work/canary.py', '{root}/work/other')", "work/other"),
    "symlink": ("os.symlink('/', '{root}/files/x')", "files/x"),
    "link": ("os.link('{root}/work/canary.py', '{root}/files/x')", "files/x"),
    "chmod": ("os.chmod('{root}/work/canary.py', 0o777)", "work/canary.py"),
    "mode": ("os.utime('{root}/work/canary.py'); os.truncate('{root}/work/canary.py', 0)", "work/canary.py"),
    "import": ("import canary", "canary/imported"),
    "c": ("ctypes.CDLL(None).creat(b'{root}/canary/x', 0o600)", "canary/x"),
    "system": ("os.system('true')", "process"),
    "popen": ("subprocess.Popen(['true'])", "process"),
    "fork": ("os._exit(0) if os.fork() == 0 else os.wait()", "process"),
    "exec": ("os.execv('/bin/true', ['true'])", "process"),
    "multiprocessing": ("multiprocessing.get_context('fork').Process(target=print).start()", "process"),
    "connect": ("socket.create_connection(('127.0.0.1', 9), 1)", "connection"),
    "datagram": ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))", "connection"),
    "unix": ("socket.socket(socket.AF_UNIX).connect('{root}/x')", "connection"),
}
HARMLESS = {
    "nothing": "1 + 1",
    "read": "open('{root}/work/canary.py').read()",
    "thread": "[t.start() or t.join() for t in [threading.Thread(target=print)]]",
    "temporary": "tempfile.TemporaryFile().write(b'x')",
    "null": "open(os.devnull, 'w').write('x')",
    "torch": "torch.ones(300, 300) @ torch.ones(300, 300)",
}
# What Python's audit hooks cannot see, and the comparison of folders does not show either.
UNSEEN_BY_AUDIT = {"outside", "multiprocessing"}


def test_the_strongest_watch_is_used(bench: Bench) -> None:
    """Linux on these machines has seccomp; a container may forbid it, and then it is said here."""
    if sys.platform.startswith("linux") and platform.machine() in ("x86_64", "aarch64"):
        status = Path("/proc/self/status").read_text()
        assert bench.watch == "seccomp" or "Seccomp:\t2" in status, "no seccomp, though nothing forbids it"
    else:
        assert bench.watch == "audit"


PAIRS = [(deed, "seccomp") for deed in DEEDS] + [(deed, "audit") for deed in DEEDS if deed not in UNSEEN_BY_AUDIT]


@pytest.mark.parametrize(("deed", "watch"), PAIRS)
def test_a_deed_is_seen(bench: Bench, deed: str, watch: str, tmp_path: Path) -> None:
    if watch == "seccomp" and bench.watch != "seccomp":
        pytest.skip("no seccomp here: the next tests are those of the audit hooks")
    place = bench.place(f"deed-{deed}-{watch}-{tmp_path.name}")
    names = {"root": str(place.root), "out": str(tmp_path / "x")}
    code, expected = (part.format(**names) for part in DEEDS[deed])
    seen = bench.job(place, {"kind": "python", "code": code, "watch": watch})
    assert seen.watch == watch
    assert any(expected in one for one in seen.effects()), f"{seen.effects()}\n{seen.err}"
    assert watch == "audit" or not (tmp_path / "x").exists()  # refused, not only seen


@pytest.mark.parametrize("deed", HARMLESS)
def test_what_is_harmless_is_not(bench: Bench, deed: str) -> None:
    place = bench.place(f"harmless-{deed}")
    seen = bench.job(place, {"kind": "python", "code": HARMLESS[deed].format(root=place.root)})
    assert seen.status == 0 and seen.effects() == [], f"{seen.effects()}\n{seen.err}"


def test_time_is_limited(bench: Bench) -> None:
    seen = bench.job(bench.place("endless"), {"kind": "python", "code": "while True: pass", "seconds": 1})
    assert seen.signal and seen.effects() == []
