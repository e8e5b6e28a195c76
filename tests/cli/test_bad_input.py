"""The issue's list of bad input: one clear message, the right exit code, nothing lost."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robcert.data import load_dataset
from robcert.network import load_model

from .conftest import Call
from .messages import says

FAST = ("--eps", "0.3", "--plan", "pgd:2", "--n", "10", "--threads", "1")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


def test_model_files(call: Call, tmp_path: Path) -> None:
    says(call("attack", "nowhere.pt", *FAST), 2, "nowhere.pt")
    says(call("attack", "digits-l2nn", *FAST), 2, "digits-l2nnn")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "random.pt").write_bytes(np.random.default_rng(0).bytes(5000))
    whole = (Path(load_model("digits-plain").source.path)).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    for name in ("empty.pt", "random.pt", "cut.safetensors"):
        answer = call("attack", name, "--data", "digits", *FAST)
        assert answer.code in (2, 3)
        says(answer, answer.code, name)


def test_a_pickled_module_is_refused_unexecuted(call: Call, tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "module.pt")
    answer = call("attack", "module.pt", "--data", "digits", *FAST)
    says(answer, answer.code, "module.pt", "--arch", "state_dict")
    assert answer.code in (2, 3)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil(tmp_path / "executed")))
    assert call("attack", "evil.pt", "--data", "digits", *FAST).code in (2, 3)
    torch.save({"weight": Evil(tmp_path / "executed")}, tmp_path / "evil2.pt")
    assert call("attack", "evil2.pt", "--data", "digits", *FAST).code in (2, 3)
    assert not (tmp_path / "executed").exists()


def test_a_foreign_state_dict(call: Call, tmp_path: Path) -> None:
    """What is missing is named, with an example that works as it stands once the names are one's own."""
    torch.save(net().state_dict(), tmp_path / "model.pt")
    answer = call("attack", "model.pt", *FAST)
    says(answer, 2, "--data", "--arch", "Example: robcert attack model.pt")
    answer = call("attack", "model.pt", "--data", "digits", *FAST)
    says(answer, answer.code, "--arch")
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef factory():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    done = call("attack", "model.pt", "--data", "digits", "--arch", "mine:factory", *FAST)
    assert done.code == 0, done.err
    says(call("attack", "model.pt", "--data", "digits", "--arch", "linaer", *FAST), 2, "'linear'")
    answer = call("attack", "model.pt", "--data", "digits", "--arch", "cnn", *FAST)
    says(answer, answer.code, "1.weight")
    assert answer.code in (2, 3)


def test_shapes_and_classes(call: Call, tmp_path: Path) -> None:
    np.savez(tmp_path / "large.npz", x=np.random.default_rng(0).random((20, 1, 9, 9), np.float32), y=np.arange(20) % 10)
    answer = call("attack", "digits-plain", "--data", "npz:large.npz", *FAST)
    says(answer, answer.code, "9")
    assert answer.code in (2, 3)
    np.savez(tmp_path / "many.npz", x=np.zeros((20, 1, 8, 8), np.float32), y=np.arange(20))
    answer = call("attack", "digits-plain", "--data", "npz:many.npz", *FAST)
    says(answer, answer.code, "class")
    assert answer.code in (2, 3)


def test_nan(call: Call, tmp_path: Path) -> None:
    spoiled = net()
    state = spoiled.state_dict()
    state["1.weight"][0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def factory():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "class Silent(nn.Module):\n"
        "    def __init__(self):\n        super().__init__(); self.head = nn.Linear(64, 10)\n"
        "    def forward(self, x):\n        return torch.log(-self.head(x.flatten(1)).abs())\n"
    )
    says(call("attack", "nan.pt", "--data", "digits", "--arch", "mine:factory", *FAST), 3, "NaN")
    torch.save({f"head.{k[2:]}": v for k, v in net().state_dict().items()}, tmp_path / "silent.pt")
    says(call("attack", "silent.pt", "--data", "digits", "--arch", "mine:Silent", *FAST), 3, "NaN")
    assert not (tmp_path / "runs").exists(), "nothing was begun"


def test_data_outside_the_box(call: Call, tmp_path: Path) -> None:
    x = load_dataset("digits", n=20).x.numpy()
    for name, spoiled in (("high", x * 255), ("low", x - 0.5), ("nan", np.where(x > 0.9, np.nan, x))):
        np.savez(tmp_path / f"{name}.npz", x=spoiled.astype(np.float32), y=np.arange(20) % 10)
        answer = call("attack", "digits-plain", "--data", f"npz:{name}.npz", *FAST)
        says(answer, answer.code, f"{name}.npz")
        assert answer.code in (2, 3)


@pytest.mark.parametrize("eps", ["0", "-1", "nan", "inf", "half", "", "1/0", "0.5,-1"])
def test_budgets(call: Call, eps: str) -> None:
    says(call("attack", "digits-plain", f"--eps={eps}"), 2, "eps")


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (("--norm", "l3", "--eps", "1"), ("unknown norm 'l3'", "l2")),
        (("--eps", "1", "--attack", "pgdd"), ("unknown attack 'pgdd'", "Did you mean 'pgd'")),
        (("--eps", "1", "--plan", "cv:10"), ("unknown attack 'cv'", "Known: alma")),
        (("--eps", "1", "--data", "digit"), ("digit", "'digits'")),
        (("--eps", "1", "--goal", "minimise"), ("unknown goal", "'minimize'")),
        (("--eps", "1", "--format", "jsn"), ("jsn", "'json'")),
        (("--eps", "1", "--iterations", "10,1k,100"), ("out of order", "--iterations 10,100,1k")),
        (("--eps", "1", "--iterations", "ten"), ("'ten' is not a number of iterations", "100, 1k")),
        (("--eps", "1", "--plan", "cw:10", "--attack", "pgd"), ("--plan", "--attack")),
        (("--eps", "1", "--plan", "cw:10", "--restarts", "7"), ("--plan already names", "pgd:100x10")),
        (("--eps", "1", "--plan", "cw:10", "--step", "0.1"), ("--step has no effect: none of the attacks cw has it",)),
        (("--eps", "1", "-o", "cw.abort=1"), ("no option 'abort'", "'abort_early'")),
        (("--eps", "1", "-o", "abort=1"), ("ATTACK.OPTION=VALUE",)),
        (("--norm", "l1", "--eps", "1", "--attack", "cw"), ("not in l1", "pgd")),
        (("--eps", "0.1,0.2", "--goal", "decide"), ("several eps", "minimize")),
        (("--norm", "l2"), ("--eps is missing", "Example: robcert attack digits-plain --norm l2 --eps 0.5")),
        (("--eps", "1", "--device", "cuda:99"), ("cuda:99",)),
    ],
)
def test_names_and_options(call: Call, arguments: tuple[str, ...], texts: tuple[str, ...]) -> None:
    answer = call("attack", "digits-plain", *arguments)
    assert answer.code == 2, answer.err
    assert answer.out == ""
    for text in texts:
        assert text in answer.err


@pytest.mark.parametrize(
    "arguments", [("atack",), ("attack",), ("attack", "digits-plain", "--espilon", "1"), ("attack", "m", "--n", "0")]
)
def test_what_the_parser_refuses(call: Call, arguments: tuple[str, ...]) -> None:
    answer = call(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err


def test_run_directories(call: Call, tmp_path: Path) -> None:
    says(call("attack", "digits-plain", *FAST, "--run", "/dev/null/run"), 3, "/dev/null/run", "--run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    says(call("attack", "digits-plain", *FAST, "--run", "full"), 2, "letter.txt", "--run")
    assert [p.name for p in (tmp_path / "full").iterdir() if not p.name.startswith(".")] == ["letter.txt"]
    says(
        call("attack", "digits-plain", *FAST, "--run", "r", "--output", "no/such/folder/x"),
        2,
        "no/such/folder/x",
        "--output",
    )
    again = call("attack", "digits-plain", *FAST, "--run", "r")
    assert again.code == 0, "nothing was lost: the run is there"
    assert "broke" not in again.err


def test_the_configuration_file(call: Call, tmp_path: Path) -> None:
    config = tmp_path / "robcert.toml"
    for text, parts in (
        ("[attack]\nespilon = 1\n", ("[attack] has no option 'espilon'", "robcert.toml")),
        ("[attak]\nn = 1\n", ("no section [attak]", "'attack'")),
        ("[data.lipshitz]\nn = 1\n", ("[data] has no option 'lipshitz'",)),
        ("[data.lipschitz]\nnn = 1\n", ("[data.lipschitz] has no option 'nn'",)),
        ("[attack]\noutput-format = 'json'\n", ("[attack] has no option 'output-format'", "format")),
        ("n = 1\n", ("robcert.toml",)),
        ("[attack\n", ("robcert.toml is not TOML",)),
    ):
        config.write_text(text)
        says(call("attack", "digits-plain", *FAST), 2, *parts)
    config.write_text('[attack]\nn = 12\nplan = "pgd:2"\nseed = 3\nthreads = 1\n')
    done = call("attack", "digits-plain", "--eps", "0.3", "--format", "json", "--seed", "5")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert (record["data"]["n"], record["seed"]) == (12, 5), "a flag wins over the file"
    config.unlink()
    (tmp_path / "pyproject.toml").write_text("[tool.robcert.attack]\nn = 11\nplan = 'pgd:2'\nthreads = 1\n")
    record = json.loads(call("attack", "digits-plain", "--eps", "0.3", "--format", "json").out)
    assert record["data"]["n"] == 11


@pytest.mark.parametrize(
    ("file", "flags", "legs"),
    [
        ('plan = "pgd:2"', ["--attack", "fgsm", "--iterations", "1"], [("fgsm", 1, 1)]),
        ('plan = "pgd:2"', ["--restarts", "2", "--attack", "pgd", "--iterations", "3"], [("pgd", 3, 2)]),
        ('attack = "fgsm"\nrestarts = 3', ["--plan", "pgd:2"], [("pgd", 2, 1)]),
        ('attack = "pgd"\niterations = "3"\nrestarts = 2', [], [("pgd", 3, 2)]),
    ],
)
def test_flags_win_over_a_plan_in_the_file(
    call: Call, tmp_path: Path, file: str, flags: list[str], legs: list[tuple[str, int, int]]
) -> None:
    (tmp_path / "robcert.toml").write_text(f'[attack]\nn = 10\neps = "0.3"\nthreads = 1\nformat = "json"\n{file}\n')
    done = call("attack", "digits-plain", *flags)
    assert done.code == 0, done.err
    ran = json.loads(done.out)["models"][0]["legs"]
    assert [(leg["attack"], leg["iterations"], leg["restarts"]) for leg in ran] == legs


def test_sections_of_commands_below_commands(call: Call, tmp_path: Path) -> None:
    (tmp_path / "robcert.toml").write_text('[data]\nformat = "json"\n[data.lipschitz]\nformat = "json"\n')
    assert "data" in json.loads(call("data").out)
    assert json.loads(call("data", "lipschitz", "digits").out)["schema"].startswith("robcert.")


def test_the_environment(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBCERT_ATTACK_N", "13")
    monkeypatch.setenv("ROBCERT_ATTACK_EPS", "0.25")
    record = json.loads(call("attack", "digits-plain", "--plan", "pgd:2", "--threads", "1", "--format", "json").out)
    assert (record["data"]["n"], record["threat"]["eps"]) == (13, [0.25])
