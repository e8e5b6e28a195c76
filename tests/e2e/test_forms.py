"""Every form of network that torch or onnxruntime can evaluate, through every command.

What each cell is stands here: ``attack`` and ``gate`` have a result for every form, with gradients where there are
some, else without; the other commands have a result or a refusal that names what the network does and where. Weights
are random, labels are the network's own answers.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robcert.cli.main import _run

from .conftest import environment

IMAGES, SIDE = 8, 4
RESULT = ""


@dataclass(frozen=True)
class Form:
    """What is expected of a form.

    Attributes:
        name: of the factory in forms.py.
        gradient: why attacks have none, as it is said before the first leg; "" where they have one.
        zero: the gradient is there and 0: a plan that asks for it is not refused.
        graph: what certify and norms say instead of a result.
        infinite: norms has a result, and it is infinite: the same is said of a layer.
        export: what export says instead of a result.
        kind: how the network is given: weights with --arch, or a file that holds it.
        more: options of attack.
    """

    name: str
    gradient: str = RESULT
    zero: bool = False
    graph: str = RESULT
    infinite: bool = False
    export: str = RESULT
    kind: str = "weights"
    more: tuple[str, ...] = ()


IN_PLACE = ["relu", "relu6", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "hardswish", "hardsigmoid",
            "hardtanh", "rrelu", "threshold", "dropout", "residual"]  # fmt: skip
VALUES = "decides by the values of a tensor which way to go (in mine.py:"

FORMS = [
    *(Form(name) for name in IN_PLACE if name != "threshold"),
    Form("threshold", graph="jumps at its threshold", infinite=True),
    Form("normalises_in_place"),
    Form("clamps_in_place"),
    Form("rectifies_the_input"),
    Form("half_logits", graph="rounds to torch.float16", infinite=True),
    Form("bfloat16_logits", graph="rounds to torch.bfloat16", infinite=True),
    Form("float64_logits"),
    Form("half_network", graph="rounds to torch.float16", infinite=True),
    Form("bfloat16_network", graph="rounds to torch.bfloat16", infinite=True),
    Form("float64_network"),
    Form("autocast", graph="autocast"),
    Form("no_grad", gradient="mine.py:"),
    Form("detached", gradient="mine.py:"),
    Form("with_numpy", gradient="mine.py:", graph="mine.py:", export="mine.py:"),
    Form("one_hot", gradient="argmax (in mine.py:", graph="one_hot"),
    Form("signs", gradient="sign (in mine.py:", zero=True, graph="sign", infinite=True),
    Form("rounded_input", gradient="round (in mine.py:", zero=True, graph="round", infinite=True),
    Form("asserts", graph=VALUES, export=VALUES),
    Form("rescales", graph=VALUES, export=VALUES),
    Form("items"),  # times 0: torch leaves the number out of the graph, and nothing else reads it
    Form("loops", graph="mine.py:", export="mine.py:"),
    Form("masks", graph="index_put"),
    Form("selects", graph="first at aten."),
    Form("as_dict"),
    Form("as_tuple"),
    Form("as_named_tuple"),
    Form("as_dataclass"),
    Form("counts"),
    Form("random", graph="random", export="random", more=("--eot", "4")),
    Form("mixes", graph="mean"),
    Form("channels_last"),
    Form("hooked"),
    Form("with_weight_norm"),
    Form("with_spectral_norm"),
    Form("with_old_weight_norm"),
    Form("relu", kind="pt2"),
    Form("half_network", kind="pt2", graph="rounds to torch.float16", infinite=True),
    Form("as_dict", kind="pt2"),
    Form("script_in_place", kind="script"),
    Form("script_branches", kind="script", graph="cond"),
    Form("script_quantised", kind="script", gradient="autograd follows", graph="quantized"),
    Form("onnx_custom", kind="onnx", gradient="node", graph="node", export="node"),
]
INSTALLED = [
    "normalises_in_place-weights",
    "items-weights",
    "onnx_custom-onnx",
    "half_network-weights",
    "signs-weights",
]
"""One form in ten is attacked by the installed command."""

FALL_BACK = ["onnx_custom-onnx attack", "no_grad-weights gate"]
"""No plan is named there."""

SLOW = {*(name for name in IN_PLACE if name not in ("relu", "dropout")), "rectifies_the_input", "bfloat16_logits",
        "bfloat16_network", "half_network-weights", "half_network-pt2", "float64_logits", "signs", "rescales", "masks",
        "selects", "loops", "detached", "channels_last", "hooked", "as_tuple", "as_named_tuple", "as_dataclass",
        "with_spectral_norm", "with_old_weight_norm", "as_dict-pt2", "script_branches"}  # fmt: skip
"""Forms of a kind of which another one is in the default set."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("forms")
    shutil.copy(Path(__file__).with_name("forms.py"), made / "mine.py")
    return made


@pytest.fixture(autouse=True)
def _here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setenv("COLUMNS", "120")
    sys.modules.pop("mine", None)
    yield
    sys.modules.pop("mine", None)


def logits(answer: Any) -> torch.Tensor:
    for name in ("logits", 0):
        try:
            answer = getattr(answer, name) if isinstance(name, str) and hasattr(answer, name) else answer[name]
        except (TypeError, KeyError, IndexError):
            continue
        if isinstance(answer, torch.Tensor) and answer.dim() == 2:
            break
    return answer.float()


def given(form: Form) -> tuple[list[str], str]:
    """The file of a form, beside its images, and the arguments that name both."""
    name = f"{form.name}-{form.kind}"
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4 * IMAGES, 1, SIDE, SIDE, generator=generator)
    x = (255 * x * torch.rand(4 * IMAGES, 1, 1, 1, generator=generator)).round() / 255
    for seed in range(50):
        torch.manual_seed(seed)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            network: Any = Custom() if form.kind == "onnx" else getattr(importlib.import_module("mine"), form.name)()
            network = network.eval()
            for parameter in network.parameters() if seed >= 25 else ():
                parameter.mul_(4)  # where one class wins, the answers are driven apart
            answer = network(x.clone())
        y = (answer if isinstance(answer, torch.Tensor) else logits(answer)).float().argmax(1)
        first = [int((y == k).nonzero()[0, 0]) for k in y.unique()]
        if len(first) >= 2:
            break
    else:
        raise AssertionError("one answer for all images: this network tests nothing")
    rows = [*first, *(k for k in range(len(x)) if k not in first)][:IMAGES]
    np.savez(f"{name}.npz", x=x[rows].numpy(), y=y[rows].numpy())
    path, flags = write(form, network, x[:2], name)
    return [path, *flags], f"npz:{name}.npz"


def write(form: Form, network: nn.Module, x: torch.Tensor, name: str) -> tuple[str, list[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form.kind == "pt2":
            torch.export.save(
                torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("n")},)), f"{name}.pt2"
            )
            return f"{name}.pt2", []
        if form.kind == "script":
            torch.jit.save(network, f"{name}.ts.pt")
            return f"{name}.ts.pt", ["--input-shape", f"1,{SIDE},{SIDE}"]
        if form.kind == "onnx":
            Path(f"{name}.onnx").write_bytes(network.proto())
            return f"{name}.onnx", []
    torch.save(network.state_dict(), f"{name}.pt")
    return f"{name}.pt", ["--arch", f"mine:{form.name}", "--classes", "3", "--input-shape", f"1,{SIDE},{SIDE}"]


class Custom(nn.Module):
    """Two layers, of which onnxruntime has the activation as an operator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(SIDE * SIDE, 12), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(nn.functional.gelu(self.first(x.flatten(1))))

    def proto(self) -> bytes:
        import onnx
        from onnx import helper, numpy_helper

        state = {name: numpy_helper.from_array(t.numpy(), name) for name, t in self.state_dict().items()}
        nodes = [
            helper.make_node("Flatten", ["images"], ["flat"], name="flatten"),
            helper.make_node("Gemm", ["flat", "first.weight", "first.bias"], ["a"], name="first", transB=1),
            helper.make_node("Gelu", ["a"], ["b"], name="activation", domain="com.microsoft"),
            helper.make_node("Gemm", ["b", "last.weight", "last.bias"], ["logits"], name="last", transB=1),
        ]
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            nodes, "net",
            [helper.make_tensor_value_info("images", kind, ["n", 1, SIDE, SIDE])],
            [helper.make_tensor_value_info("logits", kind, ["n", 3])],
            list(state.values()),
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


class Commands:
    """The command, in this process or as it is installed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], installed: bool = False) -> None:
        self.capsys, self.installed = capsys, installed

    def __call__(self, *arguments: str) -> Said:
        if self.installed:
            done = subprocess.run(
                ["robcert", *arguments], capture_output=True, text=True, env=environment(), check=False
            )
            said = Said(done.returncode, done.stdout, done.stderr)
        else:
            self.capsys.readouterr()
            code = _run(list(arguments))
            told = self.capsys.readouterr()
            said = Said(code, told.out, told.err)
        assert "defect of robcert" not in said.err + said.out, said.err
        assert "Traceback" not in said.err + said.out
        return said


def refused(said: Said, refusal: str) -> None:
    assert said.code == 3, said.out
    assert refusal in said.err, said.err
    told = [line for line in said.err.splitlines() if not line.startswith("robcert: note:")]
    assert len(told) <= 3, said.err


def expect(said: Said, refusal: str) -> None:
    if refusal:
        refused(said, refusal)
    else:
        assert said.code == 0, said.err


def named(form: Form) -> str:
    return f"{form.name}-{form.kind}"


def cases() -> list[Any]:
    return [pytest.param(f, id=named(f), marks=[pytest.mark.slow] if {f.name, named(f)} & SLOW else []) for f in FORMS]


@pytest.mark.parametrize("form", cases())
def test_attack_and_gate(form: Form, capsys: pytest.CaptureFixture[str]) -> None:
    name = named(form)
    model, data = given(form)
    attack(form, Commands(capsys, installed=name in INSTALLED), model, data, name)
    gate(form, Commands(capsys), model, data, name)


@pytest.mark.parametrize("form", cases())
def test_certify_norms_jacobian_export(form: Form, capsys: pytest.CaptureFixture[str]) -> None:
    name, call = named(form), Commands(capsys)
    model, data = given(form)
    budget = ("--data", data, "--norm", "l2", "--eps", "0.01", "--n", str(IMAGES))
    expect(call("certify", *model, *budget, "--method", "gap"), form.graph)
    norms = call("norms", *model)
    if form.infinite:
        assert norms.code == 0, norms.err
        assert "inf" in norms.out
        assert form.graph in norms.out
    else:
        expect(norms, form.graph)
    expect(call("jacobian", *model, "--data", data, "--n", str(IMAGES)), "" if form.zero else form.gradient)
    target = f"{name}-exported.pt2"
    expect(call("export", *model, target), form.export)
    assert Path(target).exists() == (form.export == RESULT and form.kind != "script")


def attack(form: Form, call: Commands, model: list[str], data: str, name: str) -> None:
    """All images are entered, and gradients are spent where there are some, else queries."""
    plan = () if f"{name} attack" in FALL_BACK else ("--plan", "noise:20,square:20" if form.gradient else "pgd:10")
    common = (*model, "--data", data, "--norm", "l2", "--eps", "0.3", "--n", str(IMAGES))
    said = call("attack", *common, "--run", f"run-{name}", "--certify", "none", "--format", "json", *plan, *form.more)
    assert said.code == 0, said.err
    (found,) = json.loads(said.out)["models"]
    assert found["n"] == IMAGES
    assert found["natural_correct"] == IMAGES or form.name in ("random", "mixes"), "labels are its own answers"
    first = found["legs"][0]
    assert first["entered"] == found["natural_correct"] >= IMAGES - 2
    assert first["forwards"] >= first["entered"]
    assert (first["backwards"] >= first["entered"]) == (not form.gradient)
    begun = said.err.index(": broke ")
    if form.gradient:
        assert all(leg["backwards"] == 0 for leg in found["legs"] if not form.zero)
        assert said.err.index("has no gradient: ") < begun, "said before the first leg"
        assert form.gradient in said.err[:begun]
        asking = call("attack", *common, "--run", f"run-asking-{name}", "--plan", "pgd:10")
        if form.zero:
            assert asking.code == 0, asking.err
            assert form.gradient in asking.err[: asking.err.index(": broke ")]
        else:
            refused(asking, form.gradient)
            assert "--plan noise:100," in asking.err
            assert "smoothing" in asking.err
        smoothed = call("certify", *model, "--data", data, "--eps", "0.1", "--n", "2", "--method", "smoothing",
                        "--samples", "100", "--confidence", "0.9")  # fmt: skip
        assert smoothed.code == 0, smoothed.err
    record = json.loads(Path(f"run-{name}", "record.json").read_text())
    assert len(record["models"][0]["legs"]) == len(found["legs"])
    for text in found["missing"]:
        assert said.err.index(text[:40]) < begun, "said before the first leg"


def gate(form: Form, call: Commands, model: list[str], data: str, name: str) -> None:
    plan = "" if f"{name} gate" in FALL_BACK else f'plan = "{"noise:20" if form.gradient else "pgd:10"}"'
    policy = f"""
[gate]
models = ["digits-plain"]
data = "{data}"
[[gate.require]]
attacked_accuracy = 0.01
norm = "linf"
eps = 0.01
certify = "none"
{plan}
"""
    Path(f"{name}.toml").write_text(policy)
    said = call("gate", *model, "--policy", f"{name}.toml", "--runs", f"gate-{name}", "--full", "--format", "json",
                "--inconclusive", "warn")  # fmt: skip
    assert said.code == 0, said.err
    (run,) = json.loads(said.out)["runs"]
    assert (run["backwards"] > 0) == (not form.gradient)
    assert run["forwards"] >= IMAGES
    assert form.gradient in said.err


def test_a_plan_is_needed_for_networks_of_both_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    one, data = given(Form("no_grad"))
    two, _ = given(Form("script_in_place", kind="script"))
    said = Commands(capsys)("attack", one[0], two[0], *one[1:], "--data", data, "--eps", "0.3")
    refused(said, "no_grad-weights: no gradient")
    assert "--plan noise:100," in said.err
