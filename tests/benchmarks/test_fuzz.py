"""A few hundred damaged files of every format: an error message or a correct load, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILES = 300


def fuzz() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_damaged_files_of_every_format() -> None:
    said: list[str] = []
    assert fuzz().run(FILES, seed=2026, say=said.append) == []
    counts = [line.split() for line in said if " loaded " in line]
    loaded = sum(int(line[2]) for line in counts)
    refused = sum(int(line[4]) for line in counts)
    assert loaded + refused == FILES
    assert loaded >= 10
    assert refused >= FILES // 3


@pytest.mark.parametrize("fault", ["raises", "writes", "sleeps", "dies", "starts", "connects"])
def test_faults_are_seen(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: a reader that misbehaves is caught."""
    code = {
        "raises": "raise KeyError('x')",
        "writes": "open('elsewhere', 'w').close()",
        "sleeps": "end = time.process_time() + 0.3\n    while time.process_time() < end: pass",
        "dies": "os.abort()",
        "starts": "os.system('true')",
        "connects": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))",
    }[fault]
    source = (Path(__file__).parents[2] / "benchmarks" / "fuzz.py").read_text(encoding="utf-8")
    changed = source.replace(
        "    import torch\n\n    from robcert.network import load_model\n", f"    {code}\n    return\n", 1
    )
    changed = changed.replace(
        "MOST_SECONDS = 10.0", "MOST_SECONDS = 0.2" if fault == "sleeps" else "MOST_SECONDS = 10.0"
    )
    changed = changed.replace("                read(kind, Path(files[kind]))\n", "                pass\n")
    assert changed != source
    for beside in ("fuzz_grammar.py", "fuzz_sandbox.py"):
        (tmp_path / beside).write_text((Path(__file__).parents[2] / "benchmarks" / beside).read_text(encoding="utf-8"))
    monkeypatch.syspath_prepend(str(tmp_path))
    copy = tmp_path / "fuzz.py"
    copy.write_text(changed)
    spec = importlib.util.spec_from_file_location("changed", copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def one_file(folder: Path) -> dict[str, Path]:
        (folder / "a.toml").write_text("a = 1")
        return {"toml": folder / "a.toml"}

    monkeypatch.setattr(module, "good_files", one_file)
    assert module.run(2, seed=0, say=lambda _: None)
