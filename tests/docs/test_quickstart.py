"""The quick start runs as it is written, through the installed command, and leaves what it says it leaves."""

from __future__ import annotations

import json
from pathlib import Path

from blocks import ROOT, SHELL, Done, blocks, shell


def test_quick_start(tmp_path: Path) -> None:
    done: list[Done] = []
    for block in blocks(ROOT / "docs" / "quickstart.md", *SHELL):
        done.append(shell(block.commands, tmp_path))
        assert done[-1].code == 0, f"{done[-1].command}\n{done[-1].out}\n{done[-1].err}"
    assert len(done) >= 8

    # The same command a second time prints the same and attacks nothing.
    first, second = [one for one in done if "--run first" in one.command]
    assert first.out == second.out
    assert "finished already" in second.err
    assert (tmp_path / "closest.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "record.json").read_text())["schema"] == "robcert.run/1"
    assert (tmp_path / "mine" / "weights.safetensors").is_file()

    # What the page about runs says anybody can check, with torch and safetensors only.
    script = next(block for block in blocks(ROOT / "docs" / "runs.md", "python") if block.title == "check.py")
    assert "import robcert" not in script.text
    (tmp_path / "check.py").write_text(script.text)
    checked = shell("python check.py first", tmp_path)
    assert checked.code == 0, checked.err
    assert "examples hold" in checked.out
