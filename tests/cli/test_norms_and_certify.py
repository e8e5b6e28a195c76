"""`robcert norms` and `robcert certify` as a user sees them: tables, JSON with its published schema, bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from torch import nn

from robcert.bounds.lipschitz.network_bound import graph_bound
from robcert.network import load_model
from robcert.types import BOUND_NORMS

from .conftest import Call
from .messages import says

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "schemas"
CERTIFY = ("certify", "digits-l2nnn", "--eps", "0.1,0.25", "--n", "40")


def checked(text: str, name: str) -> dict[str, Any]:
    """The JSON, valid under the published schema."""
    content = json.loads(text)
    jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{name}-1.json").read_text())).validate(content)
    return content


def figures(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip() for cell in line.strip("│┃").split("│")]


def test_norms_table_and_json_say_the_same(call: Call) -> None:
    form = checked(call("norms", "digits-l2nnn", "digits-plain", "--format", "json").out, "norms")
    assert form["schema"] == "robcert.norms/1"
    assert [model["name"] for model in form["models"]] == ["digits-l2nnn", "digits-plain"]
    shown = call("norms", "digits-l2nnn", "digits-plain").out
    tables = shown.split("Layer norms of ")[1:]
    assert len(tables) == 2
    for model, table in zip(form["models"], tables, strict=True):
        bound = graph_bound(load_model(model["name"]))
        assert [layer["name"] for layer in model["layers"]] == [row.name for row in bound.rows]
        lines = [figures(line) for line in table.splitlines() if "│" in line]
        for layer, row in zip(model["layers"], bound.rows, strict=True):
            assert (layer["l1"], layer["linf"], layer["l2_upper"]) == (row.l1, row.linf, row.l2_upper)
            assert layer["papers"] == []
            lower = "-" if layer["l2_lower"] is None else f"{layer['l2_lower']:.4g}"
            values = [f"{layer['l1']:.4g}", f"{layer['linf']:.4g}", lower, f"{layer['l2_upper']:.4g}"]
            assert any(line[0] and layer["name"].startswith(line[0]) and line[-4:] == values for line in lines), layer
        for norm in BOUND_NORMS:
            assert model["lipschitz"][norm] == bound.bounds[norm].whole
            assert model["product"][norm] == bound.product[norm]
            assert model["lipschitz_logit"][norm] == float(bound.bounds[norm].logits.max())
        last = {line[0]: line[-4:] for line in lines if len(line) > 4}
        for label, key in (("product", "product"), ("graph bound", "lipschitz"), ("a logit", "lipschitz_logit")):
            l1, linf, empty, l2 = last[label]
            assert (l1, linf, l2) == tuple(f"{model[key][norm]:.4g}" for norm in ("l1", "linf", "l2"))
            assert empty == ""


def test_papers_are_beside_the_norms_on_request(call: Call) -> None:
    answer = call("norms", "digits-plain", "--papers")
    assert "What papers use for the l2 norms of digits-plain" in answer.out
    assert "* not an upper bound of the layer" in answer.out
    (model,) = checked(call("norms", "digits-plain", "--papers", "--format", "json").out, "norms")["models"]
    linear = [layer for layer in model["layers"] if layer["papers"]]
    assert {layer["op"] for layer in linear} == {"conv2d", "linear"}
    for layer in linear:
        papers = {paper["name"]: paper for paper in layer["papers"]}
        assert set(papers) == {"eq. 3", "b(W)", "Frobenius", "reshaped"}
        for paper in papers.values():
            assert f"{paper['value']:.4g}" in answer.out
            if paper["bound"]:
                assert paper["value"] >= layer["l2_lower"] * (1 - 1e-9)
        assert papers["reshaped"]["bound"] == (layer["op"] == "linear")
        if layer["op"] == "linear":
            assert papers["reshaped"]["value"] == pytest.approx(layer["l2_upper"], rel=0.011)
    assert any(paper["value"] < layer["l2_lower"] for layer in linear for paper in layer["papers"]), (
        "the kernel as a matrix is no bound of a convolution, and says so"
    )


def test_norms_of_an_architecture_and_a_plot(call: Call, tmp_path: Path) -> None:
    answer = call(
        "norms", "torchvision:mobilenet_v2", "--random-weights", "--input-shape", "3,32,32", "--plot", "norms.svg"
    )
    assert answer.code == 0, answer.err
    assert "classifier.1" in answer.out
    assert (tmp_path / "norms.svg").read_text().count("<path") > 2
    graph = next(figures(line) for line in answer.out.splitlines() if "graph bound" in line)
    assert float(graph[-1]) > 0, "finite"


def test_certify_table_and_json_say_the_same(call: Call) -> None:
    form = checked(call(*CERTIFY, "--bins", "4", "--format", "json").out, "certify")
    shown = call(*CERTIFY, "--bins", "4").out
    (model,) = form["models"]
    assert (form["method"], form["threat"]["eps"], model["n"]) == ("best", [0.1, 0.25], 40)
    images = model["images"]
    right = [image for image in images if image["label"] == image["prediction"]]
    assert model["natural_correct"] == len(right)
    rows = {figures(line)[0]: figures(line)[-1] for line in shown.splitlines() if "│" in line}
    assert rows["Natural"] == f"{100 * len(right) / 40:.1f}%"
    for k, eps in enumerate((0.1, 0.25)):
        count = sum(image["radius"] > eps for image in images)
        assert model["certified_correct"][k] == count
        assert rows[f"{eps:g}"] == f"{100 * count / 40:.1f}%"
    assert all(image["radius"] <= image["radius_real"] for image in images)
    assert all(image["radius"] == 0 for image in images if image not in right)
    radii = torch.tensor([image["radius"] for image in images], dtype=torch.float64)
    assert model["median_radius"] == pytest.approx(float(radii.quantile(0.5)))
    words = " ".join(shown.split())
    assert "radii were tested at eps only" in words
    assert f"average confidence gap {model['mean_gap']:.4g}" in words
    assert f"certified at eps 0.1: {model['certified_correct'][0]} of 40 images" in words
    assert sum(model["binding"].values()) == sum(bool(image["binding"]) for image in images)
    assert [part["n"] for part in model["bins"]] == [10] * 4
    assert sum(part["certified"] for part in model["bins"]) == model["certified_correct"][0]
    assert model["refused"] == ""


def test_certify_with_a_run_and_a_fallback(call: Call) -> None:
    budget = ("--eps", "0.25", "--n", "40")
    assert call("attack", "digits-l2nnn", *budget, "--plan", "pgd:20", "--run", "r", "--threads", "1").code == 0
    answer = call("certify", "digits-l2nnn", *budget, "--bins", "2", "--attacks", "r", "--fallback", "digits-plain",
                  "--switch", "0.5", "--format", "json")  # fmt: skip
    (model,) = checked(answer.out, "certify")["models"]
    attacked = sum(part["attacked"] for part in model["bins"])
    record = json.loads(Path("r/record.json").read_text())["models"][0]
    assert attacked == record["legs"][-1]["attacked_correct"]
    assert all(part["certified"] <= part["attacked"] <= part["natural"] for part in model["bins"])
    (switch,) = model["switch"]
    assert switch["delegated"] == sum(image["gap"] < 0.5 for image in model["images"])
    sweep = call("certify", "digits-l2nnn", *budget, "--fallback", "digits-plain").out
    assert "below the switch digits-plain" in sweep


def test_what_float32_executes_may_be_unknown_and_is_then_said(call: Call) -> None:
    """Winograd's convolutions are something else: the claim in real arithmetic stands alone."""
    try:
        torch.set_float32_matmul_precision("medium")
        answer = call(*CERTIFY, "--time-per-image", "0.2", "--format", "json")
        table = call(*CERTIFY, "--time-per-image", "0.2").out
    finally:
        torch.set_float32_matmul_precision("highest")
    (model,) = checked(answer.out, "certify")["models"]
    assert "'medium'" in model["refused"]
    assert model["certified_correct"] == [0, 0]
    assert model["certified_correct_real"][0] > 10
    assert "rounding_float32" not in model["constants"]
    assert re.search(r"nothing is claimed about the network as float32\s+executes it", table)
    assert "real arithmetic" in table


def test_a_bound_that_a_method_does_not_use_is_not_called_unknown(call: Call) -> None:
    told = {method: call(*CERTIFY, "--method", method).out for method in ("gap", "local-gap")}
    assert "rounding bound of a logit at most" in told["gap"]
    assert "rounding bound of a logit" not in told["local-gap"]
    assert all("Lipschitz constant" in one for one in told.values())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Networks that have no bound, each in a file of its own; mine.py has their classes."""
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Base(nn.Module):\n"
        "    def __init__(self):\n        super().__init__(); self.conv = nn.Conv2d(1, 2, 3); "
        "self.head = nn.Linear(72, 10)\n"
        "    def forward(self, x):\n        return self.head(self.between(self.conv(x).flatten(1)))\n"
        "class Unknown(Base):\n    def between(self, h):\n        return torch.erfinv(h.clamp(-0.5, 0.5))\n"
        "class Square(Base):\n    def between(self, h):\n        return h * h\n"
        "class Plain(Base):\n    def between(self, h):\n        return h.relu()\n"
    )
    torch.manual_seed(0)
    state = {"conv.weight": torch.randn(2, 1, 3, 3), "conv.bias": torch.zeros(2),
             "head.weight": torch.randn(10, 72), "head.bias": torch.zeros(10)}  # fmt: skip
    torch.save(state, tmp_path / "net.pt")
    for name, value in (("nan", float("nan")), ("inf", float("inf"))):
        spoiled = {key: weight.clone() for key, weight in state.items()}
        spoiled["conv.weight"][0, 0, 0, 0] = value
        torch.save(spoiled, tmp_path / f"{name}.pt")
    return tmp_path


@pytest.mark.usefixtures("files")
def test_bad_models(call: Call) -> None:
    norms = ("--input-shape", "1,8,8")
    certify = ("--data", "digits", "--eps", "0.1", "--n", "5")
    for command, more in (("norms", norms), ("certify", certify)):
        answer = call(command, "net.pt", "--arch", "mine:Unknown", *more)
        says(answer, 3, "no Lipschitz rule for the op erfinv", "@rule")
        for name in ("nan", "inf"):
            says(call(command, f"{name}.pt", "--arch", "mine:Plain", *more), 3, "conv.weight", "NaN or inf")
        assert call(command, "net.pt", "--arch", "mine:Plain", *more).code == 0
    # A square has no constant: the other layers are still reported, a certificate says why there is none.
    (model,) = checked(call("norms", "net.pt", "--arch", "mine:Square", *norms, "--format", "json").out, "norms")[
        "models"
    ]
    assert model["lipschitz"]["l2"] is None
    assert [layer["l2_upper"] is None for layer in model["layers"]] == [False, True, False]
    assert model["layers"][1]["note"] == "the slope of a square grows without end"
    says(
        call("certify", "net.pt", "--arch", "mine:Square", *certify, "--method", "gap"),
        3,
        "no finite Lipschitz bound of net",
        "mul has no finite",
    )


@pytest.mark.usefixtures("files")
def test_an_input_that_the_network_cannot_take(call: Call) -> None:
    says(call("norms", "net.pt", "--arch", "mine:Plain", "--input-shape", "1,2,2"), 3, "1x2x2", "--input-shape")
    says(
        call("norms", "torchvision:resnet18", "--random-weights", "--input-shape", "1,32,32"),
        3,
        "1x32x32",
        "--input-shape",
    )
    for wrong in ("3,x,32", "3,0,32", "3,32.5,32", "", "3,-1,32"):
        answer = call("norms", "torchvision:resnet18", "--random-weights", f"--input-shape={wrong}")
        says(answer, 2, "is no size of an image", "Example: --input-shape 3,32,32")


def test_torchscript_is_read_through_its_graph(call: Call, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2), nn.Flatten(), nn.Linear(162, 10)
    ).eval()
    torch.jit.save(torch.jit.trace(net, torch.rand(2, 1, 8, 8)), tmp_path / "traced.pt")
    answer = call("norms", "traced.pt", "--input-shape", "1,8,8", "--format", "json")
    assert answer.code == 0, answer.err
    form = checked(answer.out, "norms")
    bound = graph_bound(net, (1, 8, 8))
    assert [layer["op"] for layer in form["models"][0]["layers"]] == [row.op for row in bound.rows]
    assert form["models"][0]["lipschitz"]["l2"] == pytest.approx(bound.bounds["l2"].whole, rel=1e-9)
    certify = call("certify", "traced.pt", "--data", "digits", "--eps", "0.01", "--n", "5", "--format", "json")
    assert certify.code == 0, certify.err
    (model,) = checked(certify.out, "certify")["models"]
    assert model["refused"] == ""
    assert model["constants"]["lipschitz"] == form["models"][0]["lipschitz"]["l2"]


def test_a_script_that_decides_by_values_is_refused(call: Call, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Deciding().eval()), tmp_path / "scripted.pt")
    for command in (("norms", "--input-shape", "1,8,8"), ("certify", "--data", "digits", "--eps", "0.1", "--n", "5")):
        says(call(command[0], "scripted.pt", *command[1:]), 3, "decides by the values of a tensor", "attacks work")


class Deciding(nn.Module):
    """Branches on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.flatten(1)
        if bool(h.sum() > 0):
            h = h.relu()
        return self.head(h)


@pytest.mark.drawn(2)
@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (("norms", "digits-l2nn"), ("digits-l2nnn",)),
        (("norms", "digits-plain", "--format", "jsn"), ("unknown format 'jsn'", "json")),
        (("norms", "torchvision:resnet81"), ("resnet81",)),
        (("norms", "digits-plain", "--plot", "no/such/folder/n.svg"), ("no/such/folder",)),
        (("certify", "digits-l2nnn"), ("--eps is missing", "Example: robcert certify digits-l2nnn")),
        (("certify", "digits-l2nnn", "--eps", "0.1", "--norm", "l3"), ("unknown norm 'l3'",)),
        (("certify", "digits-l2nnn", "--eps", "0.1", "--method", "gpa"), ("gpa", "'gap'")),
        (("certify", "digits-l2nnn", "--eps", "0.1", "--format", "jsn"), ("unknown format 'jsn'",)),
        (("certify", "digits-l2nnn", "--eps", "0.1", "--attacks", "nowhere", "--bins", "2"), ("nowhere",)),
        (("certify", "digits-l2nnn", "--eps", "0.1", "--fallback", "digits-plain", "--switch", "often"), ("--switch",)),
    ],
)  # fmt: skip
def test_names_and_options(call: Call, arguments: tuple[str, ...], texts: tuple[str, ...]) -> None:
    answer = call(*arguments)
    assert answer.code in (2, 3), answer.err
    assert answer.out == ""
    for text in texts:
        assert text in answer.err, answer.err


@pytest.mark.parametrize("method", ["smoothing", "gap,smoothing"])
@pytest.mark.parametrize("option", [("--bins", "2"), ("--attacks", "r", "--bins", "2"), ("--fallback", "digits-plain")])
def test_tables_by_the_confidence_gap_are_refused_for_smoothing(
    call: Call, method: str, option: tuple[str, ...]
) -> None:
    """It has no gap: such a table would be arbitrary."""
    answer = call("certify", "digits-plain", "--eps", "0.1", "--n", "2", "--method", method, *option)
    says(answer, 2, option[0], "the smoothed classifier has none", "--method smoothing alone")
