"""Networks of other hands through every command: their files where ROBCERT_FOREIGN has them, else ones like them.

The ones like them have random weights and the forms of those files: activations in place, ``out +=`` twice, a
state_dict in a list beside other tensors, an ONNX file of the TorchScript exporter, sigmoids. Their labels are their
own answers.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robcert.cli.main import _run

FILES, DATA = (os.environ.get(name) for name in ("ROBCERT_FOREIGN", "ROBCERT_DATA"))
N = 16


@dataclass(frozen=True)
class Network:
    file: str
    factory: str | None
    data: str
    eps: str
    natural: float
    mean: str | None = None
    std: str | None = None

    @property
    def options(self) -> list[str]:
        arch = [] if self.factory is None else ["--arch", self.factory]
        return arch if self.mean is None else [*arch, "--mean", self.mean, "--std", str(self.std)]


CIFAR = "0.4914,0.4822,0.4465"
# The natural accuracy is at least that of the authors, less what so few images may differ; every eps breaks some.
REAL = [
    Network("provable_mnist_linf01.pth", "architectures:cnn_a", "mnist", "0.3", 0.9),
    Network("cnn_a_adv_mnist_linf03.pth", "architectures:cnn_a", "mnist", "0.5", 0.85),
    Network("mlp_6x100_mnist.pth", "architectures:mlp_6x100", "mnist", "0.1", 0.85),
    Network("colt_mnist_01_unnormalised.onnx", None, "mnist", "0.4", 0.9, "0.1307", "0.3081"),
    Network("resnet2b_cifar10.pth", "architectures:resnet2b", "folder:cifar", "8/255", 0.5, CIFAR,
            "0.2471,0.2435,0.2616"),
    Network("conv_small_sigmoid_cifar10.pth", "architectures:conv_small_sigmoid", "folder:cifar", "8/255", 0.4, CIFAR,
            "0.2023,0.1994,0.2010"),
]  # fmt: skip
ALIKE = [
    Network("in_place.pth", "theirs:in_place", "npz:in_place.npz", "0.3", 1.0),
    Network("in_a_list.pth", "theirs:mlp", "npz:in_a_list.npz", "0.3", 1.0),
    Network("exporter.onnx", None, "npz:exporter.npz", "0.3", 1.0, "0.3", "0.5"),
    Network("residual.pth", "theirs:residual", "npz:residual.npz", "0.2", 1.0, "0.5", "0.25"),
    Network("sigmoid.pth", "theirs:sigmoid", "npz:sigmoid.npz", "0.2", 1.0, "0.5", "0.25"),
]
THEIRS = """
from torch import nn

def in_place():
    return nn.Sequential(nn.Conv2d(1, 4, 4, stride=2), nn.ReLU(inplace=True), nn.Conv2d(4, 8, 3), nn.ReLU(inplace=True),
                         nn.Flatten(), nn.Linear(8, 10))

def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 10))

def sigmoid():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 20), nn.Sigmoid(),
                         nn.Linear(20, 10))

class residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.into, self.head = nn.Conv2d(1, 4, 3), nn.Linear(144, 10)

    def forward(self, x):
        x = self.into(x).relu_()
        for block in (self.first, self.second):
            out = block(x)
            out += x
            x = out.relu_()
        return self.head(x.flatten(1))
"""


class Normalised(nn.Module):
    def __init__(self, inner: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.inner, self.mean, self.std = inner, mean, std

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x - self.mean) / self.std)


def build(network: Network, folder: Path) -> None:
    """A network like theirs, and images whose labels are its answers: several classes among them."""
    scope: dict[str, Any] = {}
    exec(THEIRS, scope)
    torch.manual_seed(3)
    net = scope[(network.factory or "theirs:in_place").partition(":")[2]]().eval()
    head = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
    nn.init.normal_(head.weight)
    x = torch.rand(400, 1, 8, 8)
    whole = Normalised(net, float(network.mean or 0), float(network.std or 1))
    with torch.no_grad():
        head.bias -= whole(x).mean(dim=0)
        y = whole(x).argmax(dim=1)
    assert len(y.unique()) >= 2
    stem = Path(network.file).stem
    np.savez(folder / f"{stem}.npz", x=x.numpy(), y=y.numpy())
    weights: Any = net.state_dict()
    if network.file == "in_a_list.pth":
        weights = {"acc": torch.tensor(960.0), "state_dict": [weights]}
    if network.file.endswith(".onnx"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(net, (x[:1],), str(folder / network.file), dynamo=False)
    else:
        torch.save(weights, folder / network.file)


def unpack(archive: Path, folder: Path) -> None:
    """Twelve pictures of each class."""
    taken: Counter[str] = Counter()
    with tarfile.open(archive) as packed:
        for member in packed:
            kind = Path(member.name).parent.name
            if member.isfile() and taken[kind] < 12:
                taken[kind] += 1
                (folder / kind).mkdir(parents=True, exist_ok=True)
                content = packed.extractfile(member)
                assert content is not None
                (folder / kind / Path(member.name).name).write_bytes(content.read())
    assert len(taken) == 10


@pytest.fixture(params=REAL if FILES and DATA else ALIKE, ids=lambda n: Path(n.file).stem)
def network(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    """The network, its file and its factory in the folder where the user stands."""
    found: Network = request.param
    monkeypatch.chdir(tmp_path)
    if FILES and DATA:
        shutil.copy(Path(FILES) / found.file, tmp_path)
        shutil.copy(Path(FILES) / "architectures.py", tmp_path)
        if found.data == "folder:cifar":
            unpack(Path(DATA) / "cifar10-jpeg" / "test.tar.gz", tmp_path / "cifar")
    else:
        (tmp_path / "theirs.py").write_text(THEIRS)
        build(found, tmp_path)
    return found


def test_every_command(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: str) -> str:
        code = _run(list(arguments))
        out, err = capsys.readouterr()
        assert code == 0, err
        assert "defect of robcert" not in err
        return out

    file, options = network.file, network.options
    data = ["--data", network.data, "--n", str(N)]
    threat, as_json = ["--norm", "linf", "--eps", network.eps], ["--format", "json"]
    crown = ["--method", "crown", *as_json]
    sizes = {"mnist": "1,28,28", "folder:cifar": "3,32,32"}
    shape = [] if file.endswith(".onnx") else ["--input-shape", sizes.get(network.data, "1,8,8")]
    record = json.loads(told("attack", file, *options, *data, *threat, "--plan", "pgd:10", "--run", "run", *as_json))
    (model,) = record["models"]
    assert not model["missing"], "the network is stored"
    assert model["natural_correct"] >= network.natural * N
    (leg,) = [leg for leg in model["legs"] if leg["attack"] == "pgd"]
    assert leg["entered"] > 0
    assert leg["backwards"] >= leg["entered"]
    told("report", "run", "--output", "page.html")
    assert "<html" in Path("page.html").read_text()[:500]
    told("show", "run")
    assert Path("adversarial.png").stat().st_size > 1000
    few = ["--data", network.data, "--n", "4"]
    certified = json.loads(told("certify", file, *options, *few, "--norm", "linf", "--eps", "0.001", *crown))
    assert certified["models"]
    told("norms", file, *options, *shape)
    told("jacobian", file, *options, *few)
    told("detect", file, *options, *few, "--calibration", "20", "--attacked", "2", "--plan", "pgd:5")
    for written in ("out.onnx", "out.pt2"):
        told("export", file, written, *options, *shape)
        assert Path(written).stat().st_size > 1000
    Path("policy.toml").write_text(policy(network))
    told("gate", "--policy", "policy.toml")


def policy(network: Network) -> str:
    said = {"arch": network.factory}
    table = "".join(f', {key} = "{value}"' for key, value in said.items() if value)
    if network.mean:
        table += f", mean = [{network.mean}], std = [{network.std}]"
    return f"""
[gate]
models = [{{ path = "{network.file}"{table} }}]
data = "{network.data}"
n = {N}

[[gate.require]]
norm = "linf"
eps = 0.002
attacked_accuracy = 0.01
plan = "pgd:5"
"""
