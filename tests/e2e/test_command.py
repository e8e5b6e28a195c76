"""The installed script itself: help, colour, and files that robcert wrote."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from .conftest import Robcert, environment

FAST = ["--eps", "0.3", "--plan", "pgd:5", "--n", "20", "--threads", "1"]


def test_help_and_errors(robcert: Robcert) -> None:
    assert robcert("--help").returncode == 0
    wrong = robcert("attack", "digits-plain", "--eps", "-1")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("robcert: error: eps is -1")
    assert "--eps 0.5" in wrong.stderr
    debug = subprocess.run(
        ["robcert", "--debug", "attack", "digits-plain", "--eps", "-1"],
        capture_output=True, text=True, env=environment(), check=False,
    )  # fmt: skip
    assert "Traceback" in debug.stderr, "only with --debug"


def test_any_file_that_robcert_wrote_needs_no_other_flag(robcert: Robcert, folder: Path) -> None:
    """.safetensors and .pt from training, and the network that a run leaves: the card is inside."""
    (folder / "recipe.toml").write_text(
        'name = "tiny"\nepochs = 10\nthreads = 1\n[architecture]\nname = "mlp"\noptions = { hidden = [16] }\n'
    )
    for name in ("tiny.safetensors", "tiny.pt"):
        done = robcert("train", "recipe.toml", "--output", name, "--threads", "1")
        assert done.returncode == 0, done.stderr
    verdicts = []
    for k, name in enumerate(("tiny.safetensors", "tiny.pt", "r0/network-tiny.pt2")):
        done = robcert("attack", name, "--norm", "l2", "--eps", "0.6", *FAST[2:], "--run", f"r{k}", "--format", "json")
        assert done.returncode == 0, done.stderr
        (model,) = json.loads(done.stdout)["models"]
        verdicts.append([(image["index"], image["status"]) for image in model["images"]])
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert {"broken", "open"} <= {status for _, status in verdicts[0]}


@pytest.mark.parametrize("colour", [True, False])
def test_a_terminal_gets_colour_unless_no_color(folder: Path, colour: bool) -> None:
    """On a pseudo-terminal: colours, and none of them with NO_COLOR."""
    master, slave = pty.openpty()
    env = environment(TERM="xterm-256color", **({} if colour else {"NO_COLOR": "1"}))
    with subprocess.Popen(
        ["robcert", "attack", "digits-plain", *FAST, "--run", "colour"], stdout=slave, stderr=slave, env=env, cwd=folder
    ) as process:
        os.close(slave)
        said = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            said += part
    os.close(master)
    assert process.returncode == 0, said
    assert b"Natural" in said
    coloured = b"\x1b[3" in said or b"\x1b[1;3" in said or b"\x1b[9" in said or b"\x1b[38" in said
    assert coloured == colour
