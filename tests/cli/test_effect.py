"""What is typed has an effect or is refused; what a configuration file sets and a command cannot use is left alone.

The options are those of the program itself: one that is new has to have a rule, and where the rule may refuse it, a
call here in which it does and one in which it does not.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.main
from onnx import helper, numpy_helper, save
from torch import nn

from robcert.cli.effect import check, name_of
from robcert.cli.main import app
from robcert.cli.rules import always
from robcert.cli.uses import USES
from robcert.errors import UsageError
from robcert.network.zoo import zoo_path

from .conftest import Call

ROOT: Any = typer.main.get_command(app)


def commands(group: Any = ROOT, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its name below the program."""
    for name, command in group.commands.items():
        yield f"{above}{name}", command
        if hasattr(command, "commands"):
            yield from commands(command, f"{above}{name} ")


COMMANDS = dict(commands())

_DIGITS = "--data digits"
_PROPERTY = "verify net.onnx p.vnnlib"
_RUN = "attack digits-plain --eps 0.1"

VALUES = {
    **{
        "eps": "0.5",
        "norm": "l2",
        "data": "digits",
        "split": "test",
        "n": "5",
        "seed": "0",
        "data_dir": ".",
        "arch": "cnn",
    },
    **{"class_order": "order.txt", "weights_key": "ema", "mean": "0.5", "std": "0.5", "plan": "pgd:5", "attack": "pgd"},
    **{"iterations": "10", "restarts": "1", "goal": "decide", "certify": "gap", "step": "0.1", "objective": "ce"},
    **{"search_steps": "3", "option": "pgd.step_size=1", "flat": "0.01", "eot": "1", "batch_size": "8", "threads": "1"},
    **{"search_precision": "float32", "verify_with": "onnxruntime", "run": "runs/a", "checkpoint": "1", "rate": "0.1"},
    "attacks": "runs/a",
    "box": "0,1",
    **{
        "time_per_image": "1",
        "sigma": "0.1",
        "samples": "10",
        "confidence": "0.9",
        "switch": "0.1",
        "input_shape": "1,8,8",
    },
    **{"classes": "10", "inconclusive": "warn", "output_format": "json", "output": "x", "save": "json=x", "runs": "r"},
    **{"calibration": "9", "calibrate_on": "test", "attacked": "5", "plot": "x.svg", "max_iterations": "10"},
    **{"device": "cpu", "models": "digits-plain", "results": "x.md", "vnnlib": "p.vnnlib", "instances": "i.csv"},
    **{"timeout": "1", "arithmetic": "real", "counterexamples": "x", "until": "flat", "time_budget": "1m"},
}
"""A value for each option that takes one."""

_TABLE_OPTIONS = (
    "n max_iterations restarts data seed data_dir download device threads models runs results output_format output"
)

IDLE: dict[str, dict[str, str]] = {
    _PROPERTY: {"verify": "arch weights_key mean std box"},
    f"{_RUN} --plan cw:100": {"attack": "attack iterations restarts step flat"},
    f"{_RUN} --dry-run": {"attack": "until time_budget verify_with run checkpoint"},
    f"{_RUN} --plan fmn:10": {"attack": "time_per_image objective search_steps data_dir download class_order"},
    f"{_RUN} --plan pgd:10 {_DIGITS}": {"attack": "search_steps"},
    "attack net.onnx --eps 0.1 --data npz:whole.npz": {"attack": "arch weights_key split data_dir download"},
    "attack net.pt2 --eps 0.1 --data folder:pictures": {"attack": "arch weights_key split data_dir download"},
    "certify digits-plain --eps 0.1 --method gap": {
        "certify": "goal time_per_image sigma samples confidence seed data_dir download class_order attacks switch"
    },
    "certify net.onnx --eps 0.1 --data npz:whole.npz --method smoothing": {
        "certify": "time_per_image split arch weights_key"
    },
    "gate": {"gate": "arch weights_key input_shape classes mean std box data split n seed norm"},
    "gate net.onnx": {"gate": "arch weights_key"},
    "gate --init digits-plain": {
        "gate": "inconclusive time_per_image full output_format output save runs data_dir download class_order "
        "update_baseline"
    },
    "gate --update-baseline": {"gate": "inconclusive output_format output save"},
    "norms torchvision:resnet18": {"norms": "arch weights_key"},
    "norms net.onnx": {"norms": "arch weights_key box"},
    "norms digits-plain": {"norms": "random_weights download"},
    "attack digits-plain --eps 0.1": {"attack": "random_weights download"},
    "certify net.onnx --eps 0.1 --data npz:whole.npz": {"certify": "random_weights download"},
    "jacobian net.pt --data digits": {"jacobian": "random_weights download"},
    "detect digits-plain": {"detect": "random_weights download"},
    "export net.pt x.pt2": {"export": "random_weights download"},
    "verify net.pt p.vnnlib": {"verify": "random_weights download"},
    "gate digits-plain": {"gate": "random_weights"},
    "jacobian net.onnx --data npz:whole.npz": {"jacobian": "split seed data_dir download arch weights_key"},
    "jacobian digits-plain": {"jacobian": "class_order"},
    "detect digits-plain --threshold-from t.json": {
        "detect": "rate calibration calibrate_on data_dir download class_order"
    },
    "detect digits-plain --images .": {"detect": "n batch_size plan attacked option plot run threads"},
    "detect net.onnx --images . --threshold-from t.json": {
        "detect": "data split n seed data_dir download class_order arch weights_key box"
    },
    "compare runs/a --no-gradients": {"compare": "data_dir"},
    "export net.onnx x.pt2": {"export": "arch weights_key"},
    "train recipe.toml": {"train": "data_dir download"},
    "reproduce": {"reproduce": _TABLE_OPTIONS},
    "reproduce l2nnn-distance": {
        "reproduce": "max_iterations restarts data data_dir download device threads models runs"
    },
    "reproduce l2nnn-table1 --data digits": {"reproduce": "data_dir download"},
    "data lipschitz digits": {"data lipschitz": "seed data_dir download class_order"},
    "data lipschitz npz:whole.npz": {"data lipschitz": "split seed data_dir download"},
}
"""A call -> the command and its options that have no effect there."""

USED: dict[str, dict[str, str]] = {
    "verify net.pt p.vnnlib": {"verify": "arch weights_key mean std input_shape classes seed device plan timeout"},
    "verify --instances i.csv": {"verify": "arch results counterexamples run threads arithmetic output_format output"},
    "attack net.pt --eps 0.1 --data npz:both.npz": {"attack": "arch weights_key split class_order n norm mean std eot"},
    "attack net.onnx --eps 0.1 --data folder:pictures": {
        "attack": "class_order goal certify run checkpoint batch_size"
    },
    "attack net.onnx --eps 0.1 --data mnist": {"attack": "data_dir download plan attack iterations restarts flat"},
    f"{_RUN} --plan pgd:10": {"attack": "objective step option data split verify_with search_precision threads"},
    f"{_RUN},0.2 --plan pgd:10": {"attack": "search_steps until time_budget"},
    "attack net.onnx net.pt --eps 0.1 --data digits": {"attack": "arch weights_key"},
    "attack --norm l2 digits-plain --data digits": {"attack": "eps"},
    "attack net.onnx --eps 0.1 --data digits --certify best": {"attack": "time_per_image"},
    "certify net.pt --eps 0.1 --data folder:pictures": {"certify": "goal time_per_image class_order arch weights_key"},
    "certify net.pt --eps 0.1 --data mnist --n 5 --bins 3": {"certify": "seed split data_dir download attacks"},
    "certify digits-plain --eps 0.1 --method smoothing": {"certify": "sigma samples confidence seed goal"},
    "certify digits-plain --eps 0.1 --fallback digits-at": {"certify": "switch"},
    "gate net.pt": {
        "gate": "arch weights_key input_shape classes mean std box inconclusive time_per_image full output_format "
        "output save runs data_dir download class_order update_baseline"
    },
    "gate --init digits-plain": {"gate": "data split n seed norm"},
    "norms net.pt torchvision:resnet18": {"norms": "arch weights_key random_weights download"},
    "attack timm:resnet18 --eps 0.1 --data npz:whole.npz": {"attack": "random_weights download"},
    "certify timm:resnet18 --eps 0.1 --data npz:whole.npz": {"certify": "random_weights download"},
    "jacobian hf:some/where --data npz:whole.npz": {"jacobian": "random_weights download"},
    "detect timm:resnet18 --data npz:whole.npz": {"detect": "random_weights download"},
    "export timm:resnet18 x.onnx": {"export": "random_weights download"},
    "verify timm:resnet18 p.vnnlib": {"verify": "random_weights download"},
    "gate timm:resnet18": {"gate": "random_weights download"},
    "jacobian net.pt --data mnist --n 5": {"jacobian": "arch weights_key split seed data_dir download"},
    "jacobian net.pt --data folder:pictures": {"jacobian": "class_order"},
    "detect net.pt --data mnist": {
        "detect": "rate calibration calibrate_on n seed plan attacked option plot run threads arch weights_key "
        "data_dir download"
    },
    "detect net.pt": {"detect": "data batch_size box"},
    "detect net.pt --data npz:both.npz": {"detect": "split"},
    "detect net.pt --data folder:pictures": {"detect": "class_order"},
    "compare runs/a": {"compare": "data_dir"},
    "export net.pt x.pt2": {"export": "arch weights_key"},
    "train mnist.toml": {"train": "data_dir download"},
    "reproduce l2nnn-table1": {"reproduce": _TABLE_OPTIONS},
    "data": {"data": "data_dir output_format"},
    "data lipschitz mnist --n 5": {"data lipschitz": "split seed data_dir download"},
    "data lipschitz folder:pictures": {"data lipschitz": "class_order"},
}
"""A call -> the command and options that have an effect there."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and data of every kind, as far as rules look at them: nothing here can be evaluated."""
    at = tmp_path_factory.mktemp("effect")
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    ends = [helper.make_tensor_value_info(n, 1, ["n", *s]) for n, s in (("x", (1, 8, 8)), ("y", (10,)))]
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((64, 10)).astype(np.float32), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    opset = [helper.make_opsetid("", 17)]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [weight])
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), at / "net.onnx")
    torch.save(net.state_dict(), at / "net.pt")
    torch.export.save(torch.export.export(net, (torch.zeros(2, 1, 8, 8),)), at / "net.pt2")
    np.savez(at / "whole.npz", x=np.zeros((4, 1, 8, 8)), y=np.arange(4))
    np.savez(at / "both.npz", x_test=np.zeros((4, 1, 8, 8)), y_test=np.arange(4), x_train=0, y_train=0)
    (at / "pictures" / "cats").mkdir(parents=True)
    recipe = (zoo_path("digits-plain") / "recipe.toml").read_text()
    (at / "recipe.toml").write_text(recipe)
    (at / "mnist.toml").write_text((zoo_path("mnist-plain") / "recipe.toml").read_text())
    return at


def typed(command: Any, option: str) -> list[str]:
    """The option as one types it."""
    (param,) = [param for param in command.params if param.name == option]
    return [param.opts[0]] if param.is_flag else [param.opts[0], VALUES[option]]


def context(line: list[str]) -> Any:
    """The context in which a command line would be executed, down to its last command."""
    found = ROOT.make_context("robcert", line)
    while hasattr(found.command, "commands") and found._protected_args + found.args:
        name, command, rest = found.command.resolve_command(found, [*found._protected_args, *found.args])
        found = command.make_context(name, rest, parent=found)
    return found


def calls(table: dict[str, dict[str, str]]) -> list[Any]:
    return [
        pytest.param(line, command, option, id=f"{line} [{option}]")
        for line, asked in table.items()
        for command, options in asked.items()
        for option in options.split()
    ]


def test_every_option_has_a_rule() -> None:
    for name, command in COMMANDS.items():
        assert set(USES[name]) == {param.name for param in command.params}, name
    assert set(USES) == set(COMMANDS)


def test_every_rule_is_tried_both_ways() -> None:
    ruled = {(name, option) for name, rules in USES.items() for option, rule in rules.items() if rule is not always}
    of_group = {("data", "data_dir"), ("data", "output_format")}  # test_options_of_a_group
    weaker = {("attack", "plan")}  # test_what_is_typed_goes_before_what_a_file_sets
    never = {("verify", "box"), ("norms", "box")}  # of a set, and of no use to that command
    idle, used = ({(one.values[1], one.values[2]) for one in calls(table)} for table in (IDLE, USED))
    assert idle | of_group | weaker == ruled
    assert ruled - never == ruled & used


@pytest.mark.parametrize(("line", "command", "option"), calls(IDLE))
def test_without_effect(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, command: str, option: str) -> None:
    monkeypatch.chdir(folder)
    flag = typed(COMMANDS[command], option)
    called = context([*shlex.split(line), *flag])
    assert name_of(called) == command
    with pytest.raises(UsageError) as refused:
        check(called)
    assert refused.value.found.startswith(f"{flag[0]} has no effect: "), refused.value.found
    assert refused.value.do


@pytest.mark.parametrize(("line", "command", "option"), calls(USED))
def test_with_effect(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, command: str, option: str) -> None:
    monkeypatch.chdir(folder)
    check(context([*shlex.split(line), *typed(COMMANDS[command], option)]))


def test_options_of_a_group(call: Call) -> None:
    for option in (["--data-dir", "."], ["--format", "json"]):
        answer = call("data", *option, "lipschitz", "digits")
        assert answer.code == 2
        assert f"{option[0]} has no effect: `lipschitz` has options of its own" in answer.err


def nothing_is_loaded(*_: object, **__: object) -> None:
    raise AssertionError("something was loaded")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("attack digits-plain --eps 0.1 --plan pgd:5 --restarts 1", "--restarts has no effect: --plan already names"),
        ("attack net.onnx --data digits --eps 0.1 --arch cnn --weights-key ema", "--arch and --weights-key have no"),
        ("verify net.onnx p.vnnlib --mean 0.5 --std 1", "--mean and --std have no effect: a property speaks of"),
        ("certify digits-plain --eps 0.1 --sigma 0.25", "--sigma has no effect: it is an option of --method smoothing"),
        ("gate digits-plain --norm l2", "--norm has no effect: the policy says it"),
        ("jacobian digits-plain --seed 1", "--seed has no effect: it draws a subset, and all images are taken"),
        ("detect digits-plain --threshold-from t.json --rate 0.1", "--rate has no effect: the threshold is that of"),
        ("reproduce l2nnn-distance --restarts 3", "--restarts has no effect: l2nnn-distance does not use it"),
    ],
)
def test_refused_before_anything_is_loaded(
    folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    monkeypatch.chdir(folder)
    for name in ("robcert.network.load_model", "robcert.cli.inputs.load_model", "robcert.cli.inputs.load_dataset"):
        monkeypatch.setattr(name, nothing_is_loaded)
    answer = call(*shlex.split(line))
    assert (answer.code, answer.out) == (2, "")
    assert f"robcert: error: {says}" in answer.err
    assert len(answer.err.splitlines()) == 2, "why, and what to do"


CONFIGURED = """
[attack]
plan = "pgd:3"
arch = "cnn"
weights-key = "ema"
mean = "0.5"
split = "train"
class-order = "nowhere.txt"
data-dir = "nowhere"
flat = 0.5
[certify]
sigma = 0.5
switch = "0.1"
run = "runs/nowhere"
class-order = "nowhere.txt"
seed = 3
weights-key = "ema"
arch = "cnn"
[norms]
arch = "cnn"
weights-key = "ema"
[data]
data-dir = "nowhere"
"""


def test_what_a_file_sets_and_a_command_cannot_use_is_left_alone(
    folder: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "robcert.toml").write_text(CONFIGURED)
    lines = [f"(declare-const X_{i} Real)(assert (>= X_{i} 0))(assert (<= X_{i} 1))" for i in range(64)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(10)]
    (tmp_path / "p.vnnlib").write_text("\n".join([*lines, "(assert (<= Y_0 Y_1))"]))
    net = str(folder / "net.onnx")
    monkeypatch.setenv("ROBCERT_GATE_MEAN", "0.5")  # of no model of the command line
    monkeypatch.setenv("ROBCERT_ATTACK_STD", "0.5")
    for line in (
        f"verify {net} p.vnnlib",
        "certify digits-plain --eps 0.01 --method gap --n 3",
        f"norms {net}",
        "data lipschitz digits --n 20",
    ):
        answer = call(*shlex.split(line))
        assert answer.code == 0, (line, answer.err)
    for line, kept in (("gate", None), ("gate digits-plain", "0.5")):
        called = context(shlex.split(line))
        check(called)
        assert called.params["mean"] == kept


def test_what_is_typed_goes_before_what_a_file_sets(call: Call, tmp_path: Path) -> None:
    (tmp_path / "robcert.toml").write_text('[attack]\nplan = "pgd:3"\nflat = 0.5\n')
    attack = shlex.split("attack digits-plain --eps 0.1 --n 4 --threads 1")
    for line, leg in (
        ([], "pgd:3"),
        (["--attack", "fgsm", "--iterations", "1"], "fgsm:1"),
        (["--plan", "pgd:2"], "pgd:2"),
    ):
        answer = call(*attack, *line)
        assert answer.code == 0, answer.err
        assert leg in answer.out
    (tmp_path / "robcert.toml").write_text('[attack]\nattack = "fgsm"\niterations = "1"\nrestarts = 2\n')
    answer = call(*attack, "--plan", "pgd:2")
    assert answer.code == 0, answer.err
    assert "pgd:2" in answer.out
    assert "fgsm" not in answer.out
