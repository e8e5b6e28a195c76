"""Networks and images as people have them, through every command that takes them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import nn

from robcert.cli.main import app
from robcert.data import load_dataset
from robcert.network import load_model

from .conftest import Answer, Call

FAST = ("--plan", "pgd:2", "--certify", "none", "--threads", "1")
MODULE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.head = nn.Linear(64, num_classes)
    def forward(self, x):
        return self.head(x.flatten(1))

def unflattened():
    return nn.Linear(64, 10)

def colour():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 10))
"""
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
FILES, DATA = (os.environ.get(name) for name in ("ROBCERT_FOREIGN", "ROBCERT_DATA"))
LOADING = sorted(name for name, command in COMMANDS.items() if any(p.name == "arch" for p in command.params))


def fitted() -> dict[str, torch.Tensor]:
    """A linear classifier of the digits that is right on most of them."""
    train = load_dataset("digits", split="train")
    x = torch.cat([train.x.flatten(1), torch.ones(len(train), 1)], dim=1).double()
    targets = 2 * nn.functional.one_hot(train.y, 10).double() - 1
    weights = torch.linalg.solve(x.T @ x + torch.eye(65).double(), x.T @ targets).float()
    return {"head.weight": weights[:64].T.contiguous(), "head.bias": weights[64].clone()}


@pytest.fixture
def here(call: Call, tmp_path: Path) -> Path:
    """The folder where the user stands, with a module of networks in it."""
    (tmp_path / "mine.py").write_text(MODULE)
    box = "".join(f"(declare-const X_{k} Real)\n(assert (>= X_{k} 0))\n(assert (<= X_{k} 0.01))\n" for k in range(64))
    outputs = "".join(f"(declare-const Y_{k} Real)\n" for k in range(10))
    (tmp_path / "far.vnnlib").write_text(f"{box}{outputs}(assert (>= Y_0 1000))\n")
    return tmp_path


def arguments(command: str, model: str, *options: str, data: str = "digits") -> list[str]:
    """A quick call of a command that loads a network."""
    common = ["--data", data, *options]
    return {
        "attack": ["attack", model, *common, "--eps", "0.2", "--n", "12", *FAST],
        "certify": ["certify", model, *common, "--eps", "0.05", "--n", "12", "--method", "ibp", "--norm", "linf"],
        "jacobian": ["jacobian", model, *common, "--n", "12"],
        "detect": ["detect", model, *common, "--calibration", "20", "--n", "12", "--attacked", "2", "--plan", "pgd:2"],
        "norms": ["norms", model, *options, "--input-shape", "1,8,8"],
        "export": ["export", model, "out.safetensors", *options, "--input-shape", "1,8,8"],
        "verify": ["verify", model, "far.vnnlib", *options, "--input-shape", "1,8,8"],
        "gate": ["gate", model, *options, "--init", "--data", data, "--policy", f"{len(list(Path().iterdir()))}.toml"],
    }[command]


def done(answer: Answer) -> Answer:
    assert answer.code == 0, answer.err
    return answer


def test_the_commands_that_load_networks_are_all_here() -> None:
    assert set(LOADING) == {"attack", "certify", "detect", "export", "gate", "jacobian", "norms", "verify"}


@pytest.mark.parametrize("command", LOADING)
def test_a_command_that_takes_an_architecture_takes_all_that_a_file_does_not_say(command: str) -> None:
    names = {p.name for p in COMMANDS[command].params}
    assert {"arch", "weights_key", "input_shape", "classes", "mean", "std"} <= names
    if "data" in names:
        assert "class_order" in names


@pytest.mark.parametrize("command", LOADING)
def test_weights_key(call: Call, here: Path, command: str) -> None:
    raw = fitted()
    torch.save({"net": raw, "ema": {key: -value for key, value in raw.items()}}, here / "two.pt")
    options = ("--arch", "mine:Net")
    plain = done(call(*arguments(command, "two.pt", *options)))
    assert plain.err.count("2 sets of weights that fit: net was taken") == 1
    chosen = done(call(*arguments(command, "two.pt", *options, "--weights-key", "net")))
    assert "sets of weights" not in chosen.err
    wrong = call(*arguments(command, "two.pt", *options, "--weights-key", "nets"))
    assert wrong.code == 2, wrong.err
    assert "Did you mean 'net'" in wrong.err
    useless = call(*arguments(command, "digits-plain", "--weights-key", "net"))
    assert useless.code == 2, useless.err
    assert "--weights-key" in useless.err


@pytest.mark.drawn(4)
@pytest.mark.parametrize("command", LOADING)
@pytest.mark.parametrize("classes", [(3, 7), (0, 1), (5,)])
def test_data_with_fewer_classes_than_the_network(
    call: Call, here: Path, command: str, classes: tuple[int, ...]
) -> None:
    digits = load_dataset("digits")
    chosen = torch.isin(digits.y, torch.tensor(classes))
    np.savez(here / "few.npz", x=digits.x[chosen].numpy(), y=digits.y[chosen].numpy())
    torch.save(fitted(), here / "bare.pt")
    said = done(call(*arguments(command, "bare.pt", "--arch", "mine:Net", data="npz:few.npz")))
    if command == "attack":
        assert load_model("bare.pt", arch="mine:Net", images=digits.x[:1], likely_classes=2).num_classes == 10
        assert "images right" in said.err
    done(call(*arguments(command, "digits-plain", data="npz:few.npz")))


def test_the_answers_are_those_of_the_network_of_ten_classes(call: Call, here: Path) -> None:
    digits = load_dataset("digits")
    chosen = torch.isin(digits.y, torch.tensor([3, 7]))
    np.savez(here / "few.npz", x=digits.x[chosen].numpy(), y=digits.y[chosen].numpy())
    torch.save(fitted(), here / "bare.pt")
    answer = call(
        *arguments("attack", "bare.pt", "--arch", "mine:Net", data="npz:few.npz"), "--n", "90", "--format", "json"
    )
    record = json.loads(done(answer).out)
    assert record["models"][0]["natural_correct"] > 75, "of some 100 images of threes and sevens"
    beyond = call(*arguments("certify", "bare.pt", "--arch", "mine:Net", data="digits"), "--classes", "9")
    assert beyond.code == 3, beyond.err
    assert "expected (9, 64)" in beyond.err


SHAPES = ["64", "1,64,1", "64,1", "8,8", "8,8,1", "64,1,1"]


@pytest.mark.parametrize("shape", SHAPES)
def test_inputs_of_another_arrangement(call: Call, here: Path, shape: str) -> None:
    torch.save(fitted(), here / "bare.pt")
    for command in ("attack", "certify", "jacobian", "detect"):
        answer = done(call(*arguments(command, "bare.pt", "--arch", "mine:Net", "--input-shape", shape)))
        wanted = shape.replace(",", "x")
        assert answer.err.count(f"images of shape 1x8x8 are given as {wanted}") == 1, "once"
    assert load_dataset("digits", n=12).shape == (1, 8, 8)


def test_a_network_that_takes_flat_inputs_says_so_itself(call: Call, here: Path) -> None:
    """A file of weights does not say it, but on images as they are it does not run; ONNX and .pt2 say it."""
    flat = nn.Linear(64, 10)
    weights = fitted()
    flat.load_state_dict({"weight": weights["head.weight"], "bias": weights["head.bias"]})
    torch.save(flat.state_dict(), here / "flat.pt")
    torch.jit.save(torch.jit.script(flat.eval()), str(here / "script.pt"))
    torch.onnx.export(flat, (torch.zeros(1, 64),), str(here / "flat.onnx"), dynamo=False)
    program = torch.export.export(flat, (torch.zeros(2, 64),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    with (here / "flat.pt2").open("wb") as file:
        torch.export.save(program, file)
    found = set()
    for model, options in (
        ("flat.pt", ["--arch", "mine:unflattened"]),
        ("script.pt", []),
        ("flat.onnx", []),
        ("flat.pt2", []),
    ):
        answer = done(call(*arguments("attack", model, *options), "--format", "json"))
        assert "1x8x8 are given as 64 (flattened row by row)" in answer.err
        found.add(json.loads(answer.out)["models"][0]["natural_correct"])
    assert len(found) == 1
    assert found.pop() >= 9, "of 12 images"


def pictures(folder: Path, mode: str) -> str:
    digits = load_dataset("digits", n=40)
    for x, y, index in zip(digits.x, digits.y.tolist(), digits.index.tolist(), strict=True):
        (folder / str(y)).mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((255 * x[0]).round().to(torch.uint8).numpy())
        grey.convert(mode).save(folder / str(y) / f"{index}.png")
    return f"folder:{folder.name}"


@pytest.mark.parametrize("command", ["attack", "certify", "jacobian", "detect", "gate"])
def test_colour_pictures_for_a_grey_network_and_the_other_way_round(call: Call, here: Path, command: str) -> None:
    colour, grey = pictures(here / "colour", "RGB"), pictures(here / "grey", "L")
    answer = done(call(*arguments(command, "digits-plain", data=colour)))
    assert answer.err.count("three equal channels became one, as digits-plain takes 1x8x8") == 1
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 10))
    torch.save(net.state_dict(), here / "net.pt")
    answer = done(call(*arguments(command, "net.pt", "--arch", "mine:colour", data=grey)))
    assert answer.err.count("grey images were repeated in three channels, as net takes 3x8x8") == 1


def test_pictures_to_screen_are_brought_to_the_network_too(call: Call, here: Path) -> None:
    pictures(here / "colour", "RGB")
    done(call(*arguments("detect", "digits-plain"), "--store", "threshold.json"))
    screened = call("detect", "digits-plain", "--threshold-from", "threshold.json", "--images", "colour")
    assert screened.code in (0, 1), screened.err
    assert "three equal channels became one" in screened.err
    assert "of 40" in screened.out or "40" in screened.out


@pytest.mark.parametrize("command", ["attack", "certify", "jacobian", "detect", "gate"])
def test_class_order(call: Call, here: Path, command: str) -> None:
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    pictures(here / "digits", "L")
    for number, name in enumerate(names):
        (here / "digits" / str(number)).rename(here / "digits" / name)
    (here / "order.txt").write_text("\n".join(names))
    plain = done(call(*arguments(command, "digits-plain", data="folder:digits")))
    assert plain.err.count("classes in alphabetical order (--class-order says it otherwise): 0 eight, 1 five") == 1
    said = done(call(*arguments(command, "digits-plain", "--class-order", "order.txt", data="folder:digits")))
    assert said.err.count("classes in the given order: 0 zero, 1 one, 2 two") == 1
    wrong = call(*arguments(command, "digits-plain", "--class-order", "no.txt", data="folder:digits"))
    assert (wrong.code, "no.txt cannot be read" in wrong.err) == (2, True)
    useless = call(*arguments(command, "digits-plain", "--class-order", "order.txt"))
    assert (useless.code, "the classes of digits have numbers" in useless.err) == (2, True)


def test_the_order_decides_what_is_right(call: Call, here: Path) -> None:
    pictures(here / "digits", "L")
    for number in range(10):
        (here / "digits" / str(number)).rename(here / "digits" / f"{9 - number} turned")
    order = {f"{9 - number} turned": number for number in range(10)}
    (here / "order.json").write_text(json.dumps(order))
    wrong, right = (
        json.loads(
            done(
                call(
                    *arguments("attack", "digits-plain", *o, data="folder:digits"),
                    "--n",
                    "40",
                    "--format",
                    "json",
                    "--run",
                    r,
                )
            ).out
        )
        for o, r in (([], "a"), (["--class-order", "order.json"], "b"))
    )
    assert wrong["models"][0]["natural_correct"] < 10
    assert right["models"][0]["natural_correct"] > 35
    assert right["data"]["class_order"] == order
    assert "class_order" not in wrong["data"]
    done(call("report", "b", "--output", "page.html"))
    page = (here / "page.html").read_text()
    assert "--class-order" in page
    assert "class-order.json of b:" in page


def test_runs_on_fitted_and_ordered_images_are_compared(call: Call, here: Path) -> None:
    data = pictures(here / "colour", "RGB")
    (here / "order.txt").write_text("\n".join(map(str, range(10))))
    for name, plan in (("a", "pgd:2"), ("b", "pgd:4")):
        done(
            call("attack", "digits-plain", "--data", data, "--class-order", "order.txt", "--goal", "minimize", "--eps",
                 "0.5", "--n", "12", "--plan", plan, "--threads", "1", "--run", name)
        )  # fmt: skip
    compared = done(call("compare", "a", "b"))
    assert "pgd" in compared.out


def test_a_configured_class_order_is_left_alone_where_it_has_no_use(call: Call, here: Path) -> None:
    pictures(here / "digits", "L")
    (here / "order.txt").write_text("\n".join(map(str, range(10))))
    (here / "robcert.toml").write_text('[attack]\nclass-order = "order.txt"\n')
    done(call(*arguments("attack", "digits-plain")))
    answer = done(call(*arguments("attack", "digits-plain", data="folder:digits")))
    assert "in the given order" in answer.err


def test_a_configured_key_is_left_alone_where_it_has_no_use(call: Call, here: Path) -> None:
    torch.save({"net": fitted(), "ema": {k: -v for k, v in fitted().items()}}, here / "two.pt")
    (here / "robcert.toml").write_text('[attack]\nweights-key = "ema"\n')
    done(call(*arguments("attack", "digits-plain")))
    answer = done(call(*arguments("attack", "two.pt", "--arch", "mine:Net"), "--format", "json"))
    assert json.loads(answer.out)["models"][0]["natural_correct"] < 6, "the key is used where there is one"


def test_a_policy_may_say_all_of_it(call: Call, here: Path) -> None:
    raw = fitted()
    torch.save({"net": {k: -v for k, v in raw.items()}, "ema": raw}, here / "two.pt")
    pictures(here / "digits", "RGB")
    (here / "orders").mkdir()
    (here / "orders" / "order.json").write_text(json.dumps([str(k) for k in range(10)]))
    (here / "robcert.toml").write_text(
        "[gate]\n"
        'models = [{ path = "two.pt", arch = "mine:Net", weights_key = "ema" }]\n'
        'data = "folder:digits"\nclass_order = "orders/order.json"\n'
        "[[gate.require]]\nnatural_accuracy = 0.6\n"
        '[[gate.require]]\nname = "wide"\nnorm = "linf"\neps = 8\nattacked_accuracy = 0.01\nplan = "pgd:1"\n'
    )
    answer = call("gate")
    assert "in the given order" in answer.err
    assert "three equal channels became one" in answer.err
    assert "robcert.toml:7: eps 8 in linf is wider than half of the box" in answer.err
    assert answer.code == 1, "and nothing stands at that"
    (here / "robcert.toml").write_text(
        (here / "robcert.toml").read_text().replace('"ema"', '"net"').split("[[gate.require]]\nname")[0]
    )
    assert call("gate").code == 1, "the other weights are wrong"
    bad = call("gate", "--arch", "mine:Net")
    assert (bad.code, "speaks of a model of the command line" in bad.err) == (2, True)
    taken = call("gate", "two.pt", "--arch", "mine:Net", "--weights-key", "ema", "--class-order", "orders/order.json")
    assert taken.code == 0, taken.err


def test_a_policy_that_was_begun_for_a_foreign_network_runs(call: Call, here: Path) -> None:
    torch.save({"net": fitted(), "ema": fitted()}, here / "two.pt")
    pictures(here / "digits", "L")
    (here / "order.txt").write_text("\n".join(map(str, range(10))))
    done(
        call("gate", "two.pt", "--arch", "mine:Net", "--weights-key", "net", "--mean", "0", "--std", "1", "--init",
             "--data", "folder:digits", "--class-order", "order.txt")
    )  # fmt: skip
    text = (here / "robcert.toml").read_text()
    assert 'arch = "mine:Net", weights_key = "net"' in text
    assert 'class_order = "order.txt"' in text
    answer = call("gate")
    assert answer.code in (0, 1), answer.err


WIDE = [
    ("linf", "8", "8/255"),
    ("linf", "0.6", None),
    ("linf", "0.1,16", "16/255"),
    ("l2", "128", "128/255"),
    ("l2", "4.5", "4.5/255"),
    ("l1", "40", "40/255"),
]


@pytest.mark.parametrize("command", ["attack", "certify"])
@pytest.mark.parametrize(("norm", "eps", "meant"), WIDE)
def test_a_budget_as_wide_as_the_box(call: Call, command: str, norm: str, eps: str, meant: str | None) -> None:
    words = ["digits-plain", "--norm", norm, "--eps", eps, "--n", "10"]
    words += ["--method", "gap"] if command == "certify" else [*FAST]
    answer = done(call(command, *words))
    assert answer.err.count("is wider than half of the box [0, 1]") == 1
    assert (f"is {meant} meant?" in answer.err) if meant else ("meant?" not in answer.err)


@pytest.mark.parametrize(("norm", "eps"), [("linf", "8/255,0.5"), ("l2", "3.9"), ("l1", "31")])
def test_budgets_of_an_ordinary_size_are_not_spoken_of(call: Call, norm: str, eps: str) -> None:
    answer = done(call("attack", "digits-plain", "--norm", norm, "--eps", eps, "--n", "10", *FAST))
    assert "wider" not in answer.err


# The networks of other hands, with the accuracy that their README states.

FOREIGN = [
    ("provable_mnist_linf01.pth", "cnn_a", (), 0.9820),
    ("cnn_a_adv_mnist_linf03.pth", "cnn_a", (), 0.9633),
    ("mlp_6x100_mnist.pth", "mlp_6x100", (), 0.9629),
    ("colt_mnist_01_unnormalised.onnx", None, ("--mean", "0.1307", "--std", "0.3081"), 0.9916),
]


@pytest.mark.parametrize(("name", "arch", "options", "natural"), FOREIGN)
def test_networks_of_other_hands(
    call: Call,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    arch: str | None,
    options: tuple[str, ...],
    natural: float,
) -> None:
    """Where the files are not there, a checkpoint of the same form on the digits stands in."""
    if FILES and DATA and (Path(FILES) / name).is_file():
        monkeypatch.chdir(FILES)
        words = [name, *(["--arch", f"architectures:{arch}"] if arch else []), "--data", "mnist", "--data-dir", DATA]
        n, least, most = "10000", natural - 1e-4, natural + 1e-4
    else:
        torch.save({"acc": torch.tensor(960), "state_dict": [fitted()]}, here / name.replace(".onnx", ".pth"))
        words = [name.replace(".onnx", ".pth"), "--arch", "mine:Net", "--data", "digits"]
        options, n, least, most = (), "500", 0.85, 1.0
    plan = ["--norm", "linf", "--eps", "0.001", "--plan", "noise:1", "--certify", "none", "--threads", "1"]
    answer = call("attack", *words, *options, "--n", n, *plan, "--format", "json", "--run", here / "run")
    record = json.loads(done(answer).out)
    share = record["models"][0]["natural_correct"] / record["data"]["n"]
    assert least <= share <= most
