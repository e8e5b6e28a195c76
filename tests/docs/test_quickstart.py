"""The quick start runs as it is written, and leaves what it says it leaves."""

from __future__ import annotations

import json
from pathlib import Path

from blocks import ROOT, Done, blocks, shell


def test_every_block_succeeds(quickstart: tuple[Path, list[Done]]) -> None:
    _, done = quickstart
    assert len(done) >= 8
    for one in done:
        assert one.code == 0, f"{one.command}\n{one.out}\n{one.err}"


def test_second_run_has_nothing_left_to_do(quickstart: tuple[Path, list[Done]]) -> None:
    _, done = quickstart
    first, second = [one for one in done if "--run first" in one.command]
    assert first.out == second.out
    assert "finished already" in second.err


def test_results_are_there(quickstart: tuple[Path, list[Done]]) -> None:
    folder, _ = quickstart
    assert (folder / "closest.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "record.json").read_text())["schema"] == "robcert.run/1"
    assert (folder / "mine" / "weights.safetensors").is_file()


def test_examples_hold_without_robcert(quickstart: tuple[Path, list[Done]]) -> None:
    folder, _ = quickstart
    script = next(block for block in blocks(ROOT / "docs" / "runs.md", "python") if block.title == "check.py")
    assert "robcert." not in script.text.replace("robcert.run", "")
    (folder / "check.py").write_text(script.text)
    done = shell("python check.py first", folder)
    assert done.code == 0, done.err
    assert "examples hold" in done.out
