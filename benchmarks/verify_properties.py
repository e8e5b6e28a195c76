"""Sixty properties of the networks in ROBCERT_FOREIGN, each with what is known about it without robcert's proofs.

    python benchmarks/verify_properties.py FOLDER              # an hour or two on one core
    python benchmarks/verify_properties.py FOLDER --highs 60 --each 5

Written to FOLDER: the networks as ONNX files (torch's exporter; the normalisation stays outside), VNN-LIB files and
truth.json. A property is local robustness in l-infinity around a test image that the network answers rightly; its eps
is drawn log-uniformly from a range below, one for each kind, which was fixed before robcert was asked about any.

sat: projected gradient descent with 20 restarts of 200 steps against every other class finds a point, and onnxruntime
agrees. unsat: HiGHS (scipy.optimize.milp) finds the mixed-integer programme of every other class infeasible, with a
margin of 1e-4, within --highs seconds for all of them; the bounds of the neurons are those of Fast-Lin (Weng et al.
2018), worked out here. unknown: nothing is looked for. A draw that does not turn out as its kind is thrown away.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import scipy.sparse as sp
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from robcert.data import load_dataset
from robcert.network import load_model

RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "provable_mnist_linf01": {"sat": (0.18, 0.3), "unsat": (0.02, 0.1), "unknown": (0.1, 0.18)},
    "cnn_a_adv_mnist_linf03": {"sat": (0.3, 0.45), "unsat": (0.02, 0.15), "unknown": (0.15, 0.3)},
    "mlp_6x100_mnist": {"sat": (0.03, 0.08), "unsat": (0.002, 0.015), "unknown": (0.015, 0.03)},
    "colt_mnist_01_unnormalised": {"sat": (0.15, 0.3), "unknown": (0.08, 0.15)},
    "resnet2b_cifar10": {"sat": (0.01, 0.04), "unknown": (0.002, 0.01)},
    "conv_small_sigmoid_cifar10": {"sat": (0.01, 0.04), "unknown": (0.002, 0.01)},
}
"""Network -> kind -> eps, in units of images in [0, 1]; HiGHS takes the first three."""

FACTORIES = {
    "provable_mnist_linf01": "cnn_a",
    "cnn_a_adv_mnist_linf03": "cnn_a",
    "mlp_6x100_mnist": "mlp_6x100",
    "resnet2b_cifar10": "resnet2b",
    "conv_small_sigmoid_cifar10": "conv_small_sigmoid",
}
NORMALISATION = {
    "colt_mnist_01_unnormalised": ([0.1307], [0.3081]),
    "resnet2b_cifar10": ([0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]),
    "conv_small_sigmoid_cifar10": ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
}
MARGIN = 1e-4
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Network:
    """A network of another hand, on disk and in torch."""

    name: str
    path: Path
    module: nn.Module
    session: onnxruntime.InferenceSession
    x: Tensor
    y: Tensor

    def outputs(self, x: Tensor) -> Array:
        return np.asarray(self.session.run(None, {self.session.get_inputs()[0].name: x.numpy()})[0], np.float64)

    def ends(self, k: int, eps: float) -> tuple[Tensor, Tensor]:
        """The box around an image in the units of the file, float32."""
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in NORMALISATION.get(self.name, ([0.0], [1.0])))
        low, high = ((self.x[k].double() + sign * eps).clamp(0, 1) for sign in (-1, 1))
        return ((low - mean) / std).float(), ((high - mean) / std).float()


def networks(folder: Path) -> Iterator[Network]:
    foreign = Path(os.environ["ROBCERT_FOREIGN"])
    spec = importlib.util.spec_from_file_location("architectures", foreign / "architectures.py")
    assert spec is not None
    assert spec.loader is not None
    factories = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(factories)
    pictures = Path(os.environ["ROBCERT_DATA"]) / "cifar10-jpeg" / "test.tar.gz"
    with tempfile.TemporaryDirectory() as unpacked, tarfile.open(pictures) as archive:
        archive.extractall(unpacked, filter="data")
        cifar = load_dataset(f"folder:{unpacked}/test", n=300, seed=0)
    data = {"mnist": load_dataset("mnist", n=300, seed=0), "cifar10": cifar}
    for name in RANGES:
        path = folder / f"{name}.onnx"
        images = data["cifar10" if "cifar" in name else "mnist"]
        if name in FACTORIES:
            module = getattr(factories, FACTORIES[name])()
            saved = torch.load(foreign / f"{name}.pth", weights_only=True, map_location="cpu")
            state = saved.get("state_dict", saved)
            module.load_state_dict(state[0] if isinstance(state, list) else state)
            module.eval()
            torch.onnx.export(module, (images.x[:1],), str(path), dynamo=False, input_names=["x"], output_names=["y"])
        else:
            shutil.copy(foreign / f"{name}.onnx", path)
            module = load_model(str(path)).module
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        yield Network(name, path, module.requires_grad_(False), session, images.x, images.y)


def searched(net: Network, low: Tensor, high: Tensor, label: int, seed: int) -> bool:
    """Look for a counterexample for long."""
    generator = torch.Generator().manual_seed(seed)
    others = [j for j in range(10) if j != label]
    target = torch.tensor(others).repeat_interleave(20)
    x = low + (high - low) * torch.rand(len(target), *low.shape, generator=generator)
    for step in range(200):
        x.requires_grad_()
        z = net.module(x)
        gap = z[:, label] - z.gather(1, target.view(-1, 1)).squeeze(1)
        for k in (gap <= 0).nonzero().flatten().tolist()[:3]:
            y = net.outputs(x[k : k + 1].detach())[0]
            if y[others].max() >= y[label]:
                return True
        (gradient,) = torch.autograd.grad(gap.sum(), x)
        size = 0.25 * (1 + math.cos(math.pi * step / 200)) / 2 + 0.002
        x = torch.clamp(x.detach() - size * (high - low) * gradient.sign(), low, high)
    return False


def layers(module: nn.Module, shape: torch.Size) -> list[tuple[Array, Array]] | None:
    """Matrices and offsets of a sequence of affine layers with ReLU between them; None for another network."""
    found: list[tuple[Array, Array]] = []
    if not isinstance(module, nn.Sequential):
        return None
    for layer in module:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            count, double = math.prod(shape), layer.double()
            zero = double(torch.zeros(1, *shape, dtype=torch.float64))
            columns = double(torch.eye(count, dtype=torch.float64).view(count, *shape)) - zero
            found.append((columns.flatten(1).T.numpy().copy(), zero.flatten().numpy().copy()))
            shape = zero.shape[1:]
            layer.float()
        elif isinstance(layer, nn.Flatten):
            shape = torch.Size([math.prod(shape)])
        elif not isinstance(layer, nn.ReLU):
            return None
    return found


def fast_lin(parts: list[tuple[Array, Array]], low: Array, high: Array) -> list[tuple[Array, Array]]:
    """Bounds of the input of each ReLU, and of the outputs."""
    centre, half = (low + high) / 2, (high - low) / 2
    bounds: list[tuple[Array, Array]] = []
    for k in range(len(parts)):
        ends = []
        for sign in (1.0, -1.0):
            a, c = sign * parts[k][0], sign * parts[k][1]
            for layer in range(k - 1, -1, -1):
                lower, upper = bounds[layer]
                crossing = (lower < 0) & (upper > 0)
                slope = np.where(lower >= 0, 1.0, np.where(crossing, upper / np.where(crossing, upper - lower, 1), 0.0))
                shift = np.where(crossing, -slope * lower, 0.0)
                c = c + np.minimum(a, 0) @ shift  # the upper line where a is negative, the parallel one else
                a = a * slope
                c = c + a @ parts[layer][1]
                a = a @ parts[layer][0]
            ends.append(a @ centre - np.abs(a) @ half + c)
        bounds.append((ends[0], -ends[1]))
    return bounds


def infeasible(parts: list[tuple[Array, Array]], low: Array, high: Array, label: int, deadline: float) -> bool:
    """Whether HiGHS proves that no other class comes within MARGIN of the label."""
    last, offset = parts[-1]
    for j in (j for j in range(10) if j != label):
        pair = [*parts[:-1], ((last[label] - last[j])[None], (offset[label] - offset[j])[None])]
        bounds = fast_lin(pair, low, high)
        if bounds[-1][0][0] > MARGIN:
            continue
        left = deadline - time.monotonic()
        if left <= 0 or not _excluded(pair, bounds, low, high, left):
            return False
    return True


def _excluded(parts: list[Any], bounds: list[Any], low: Array, high: Array, seconds: float) -> bool:
    """One class: variables are the inputs, the outputs of every hidden layer, and a sign of each crossing neuron."""
    sizes = [len(low), *(len(b) for _, b in parts[:-1])]
    starts = np.cumsum([0, *sizes])
    crossing = [np.flatnonzero((a < 0) & (b > 0)) for a, b in bounds[:-1]]
    signs = np.cumsum([starts[-1], *(len(c) for c in crossing)])
    total = int(signs[-1])
    lower, upper = np.zeros(total), np.ones(total)
    lower[: sizes[0]], upper[: sizes[0]] = low, high
    rows: list[Any] = []
    limits: list[tuple[Array, Array]] = []

    def block(count: int, *entries: tuple[int, Any]) -> None:
        placed: list[Any] = [sp.csr_matrix((count, total))]
        for start, matrix in entries:
            right = total - start - matrix.shape[1]
            placed.append(
                sp.hstack([sp.csr_matrix((count, start)), matrix, sp.csr_matrix((count, right))], format="csr")
            )
        rows.append(sum(placed[1:], placed[0]))

    for k, (weight, bias) in enumerate(parts[:-1]):
        a, b = bounds[k]
        here, before = int(starts[k + 1]), int(starts[k])
        upper[here : here + len(b)] = np.maximum(b, 0)
        on, some = np.flatnonzero(a >= 0), crossing[k]
        eye: Any = sp.identity(len(bias), format="csr")
        block(len(on), (here, eye[on]), (before, sp.csr_matrix(-weight[on])))
        limits.append((bias[on], bias[on]))
        block(len(some), (here, eye[some]), (before, sp.csr_matrix(-weight[some])))  # h >= z
        limits.append((bias[some], np.full(len(some), np.inf)))
        own: Any = sp.identity(len(some), format="csr")
        block(
            len(some),
            (here, eye[some]),
            (before, sp.csr_matrix(-weight[some])),
            (int(signs[k]), -own.multiply(a[some][:, None])),
        )
        limits.append((np.full(len(some), -np.inf), bias[some] - a[some]))  # h <= z - a (1 - s)
        block(len(some), (here, eye[some]), (int(signs[k]), -own.multiply(b[some][:, None])))
        limits.append((np.full(len(some), -np.inf), np.zeros(len(some))))  # h <= b s
    weight, bias = parts[-1]
    block(1, (int(starts[-2]), sp.csr_matrix(weight)))
    limits.append((np.full(1, -np.inf), MARGIN - bias))
    integral = np.zeros(total)
    integral[starts[-1] :] = 1
    least, most = (np.concatenate(side) for side in zip(*limits, strict=True))
    constraint: Any = LinearConstraint(sp.vstack(rows, format="csr"), least, most)  # type: ignore[arg-type]
    found = milp(
        np.zeros(total),
        integrality=integral,
        bounds=Bounds(lower, upper),  # pyright: ignore[reportArgumentType] (stubs know scalars)
        constraints=constraint,
        options={"time_limit": seconds},
    )
    return found.status == 2


def written(path: Path, low: Tensor, high: Tensor, label: int) -> None:
    ends = list(zip(low.double().flatten().tolist(), high.double().flatten().tolist(), strict=True))
    lines = [f"(declare-const X_{i} Real)" for i in range(len(ends))] + [
        f"(declare-const Y_{j} Real)" for j in range(10)
    ]
    lines += [f"(assert (>= X_{i} {a!r}))\n(assert (<= X_{i} {b!r}))" for i, (a, b) in enumerate(ends)]
    cases = " ".join(f"(and (>= Y_{j} Y_{label}))" for j in range(10) if j != label)
    path.write_text("\n".join([*lines, f"(assert (or {cases}))\n"]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=20, help="properties of each kind")
    parser.add_argument("--highs", type=float, default=600.0, help="seconds for HiGHS for a property")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    nets = {net.name: net for net in networks(given.folder)}
    listed: list[dict[str, Any]] = []
    for index, kind in enumerate(("sat", "unknown", "unsat")):
        draw = np.random.default_rng([given.seed, index])
        able = [net for net in nets.values() if kind in RANGES[net.name]]
        matrices = {net.name: layers(net.module, net.x.shape[1:]) for net in able if kind == "unsat"}
        kept = number = 0
        while kept < given.each:
            net, k = able[number % len(able)], int(draw.integers(len(able[0].x)))
            least, most = RANGES[net.name][kind]
            eps = float(math.exp(draw.uniform(math.log(least), math.log(most))))
            number += 1
            label = int(net.y[k])
            middle, _ = net.ends(k, 0.0)
            if int(net.outputs(middle[None])[0].argmax()) != label:
                continue
            low, high = net.ends(k, eps)
            began = time.monotonic()
            least_x, most_x = (end.double().flatten().numpy() for end in (low, high))
            if kind == "sat" and not searched(net, low, high, label, number):
                continue
            parts = matrices.get(net.name)
            if kind == "unsat" and not (parts and infeasible(parts, least_x, most_x, label, began + given.highs)):
                continue
            name = f"{kind}-{number:03d}-{net.name}.vnnlib"
            written(given.folder / name, low, high, label)
            listed.append({"model": net.path.name, "property": name, "truth": kind, "eps": eps, "image": k})
            (given.folder / "truth.json").write_text(json.dumps(listed, indent=1))
            kept += 1
            print(f"{name} image {k} eps {eps:.4f} ({time.monotonic() - began:.1f} s)", flush=True)


if __name__ == "__main__":
    main()
