"""Whole networks: the zoo, archives, torchvision, and what cannot be bounded."""

from __future__ import annotations

import math
import resource
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robcert.bounds.lipschitz.network_bound import BINDINGS, GraphBound, graph_bound, lipschitz_bound
from robcert.errors import EvaluationError, UsageError
from robcert.network.export import export_pt2
from robcert.network.load import from_module, load_model
from robcert.types import BOUND_NORMS, BoundNorm
from robcert.vision import torchvision

from .ascent import attained, ratios, search
from .random_networks import Do


def same(one: GraphBound, other: GraphBound) -> None:
    for norm in BOUND_NORMS:
        a, b = one.bounds[norm], other.bounds[norm]
        assert a.whole == pytest.approx(b.whole, rel=1e-9)
        assert a.features == pytest.approx(b.features, rel=1e-9)
        torch.testing.assert_close(a.logits, b.logits, rtol=1e-9, atol=0)
        torch.testing.assert_close(a.pairs, b.pairs, rtol=1e-9, atol=0)


@pytest.fixture(scope="module")
def l2nnn() -> GraphBound:
    return graph_bound(load_model("digits-l2nnn"))


def test_each_logit_of_an_l2nnn_is_nonexpansive(l2nnn: GraphBound) -> None:
    bound = l2nnn.bounds["l2"]
    assert bool((bound.logits <= 1 + 1e-6).all())
    assert bool((bound.logits >= 0.9).all())
    sums = bound.logits[:, None] + bound.logits[None, :]
    off = ~torch.eye(10, dtype=torch.bool)
    assert bool((bound.pairs[off] < sums[off] * 0.95).all()), "rows w_i - w_j are shorter than 2"
    assert bool((bound.pairs.diagonal() == 0).all())
    torch.testing.assert_close(bound.pairs, bound.pairs.T)
    assert {BINDINGS[int(b)] for b in bound.binding_row(0)[1:]} == {"rows"}
    assert bound.reasons == ()


def test_rows_of_an_l2nnn(l2nnn: GraphBound) -> None:
    assert [(row.name, row.op) for row in l2nnn.rows] == [
        ("0", "conv2d"), ("1", "two-sided relu"), ("2", "norm_pool"), ("4", "linear"), ("5", "two-sided relu"),
        ("6", "linear"),
    ]  # fmt: skip
    first, second = l2nnn.rows[:2]
    assert (first.in_shape, first.out_shape) == ((1, 8, 8), (16, 8, 8))
    assert (second.in_shape, second.out_shape) == ((16, 8, 8), (32, 8, 8))
    assert first.l2_lower is not None
    assert 0.9 < first.l2_lower <= first.l2_upper <= 1 + 1e-6
    assert l2nnn.product["l2"] == pytest.approx(math.prod(row.l2_upper for row in l2nnn.rows))


def test_the_archive_of_a_network_has_the_same_bound(l2nnn: GraphBound, tmp_path: Path) -> None:
    path = export_pt2(load_model("digits-l2nnn"), tmp_path / "net.pt2")
    written = graph_bound(load_model(path))
    same(l2nnn, written)
    assert [row.op for row in written.rows] == [row.op for row in l2nnn.rows]
    assert [row.name for row in written.rows if row.linear] == ["0", "4", "6"]


def small() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)
    ).eval()


def test_torchscript_is_read_through_its_graph(tmp_path: Path) -> None:
    net = small()
    torch.jit.save(torch.jit.script(net), str(tmp_path / "net.pt"))
    loaded = load_model(tmp_path / "net.pt", input_shape=(1, 6, 6), mean=(0.4,), std=(0.3,))
    bound = graph_bound(loaded)
    wanted = graph_bound(from_module(net, (1, 6, 6), mean=(0.4,), std=(0.3,)))
    for norm in BOUND_NORMS:  # the archive keeps its BatchNorm, which loading folds into the convolution otherwise
        assert bound.bounds[norm].whole == pytest.approx(wanted.bounds[norm].whole, rel=0.01)


def test_torchscript_that_branches_is_refused_with_the_way_out(tmp_path: Path) -> None:
    class Branch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            if bool(x.sum() > 5):
                return x * 2
            return x * 3

    torch.jit.save(torch.jit.script(Branch()), str(tmp_path / "net.pt"))
    loaded = load_model(tmp_path / "net.pt", input_shape=(1, 2, 2))
    with pytest.raises(EvaluationError, match="values of a tensor"):
        graph_bound(loaded)


def test_normalisation_is_part_of_the_bound() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    plain = graph_bound(from_module(net, (1, 2, 2)))
    scaled = graph_bound(from_module(net, (1, 2, 2), mean=(0.5,), std=(0.25,)))
    for norm in BOUND_NORMS:
        assert scaled.bounds[norm].whole == pytest.approx(4 * plain.bounds[norm].whole, rel=1e-6)


@pytest.mark.parametrize("norm", BOUND_NORMS)
def test_a_linear_classifier_is_exact(norm: BoundNorm) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(12, 4)
    bound = lipschitz_bound(nn.Sequential(nn.Flatten(), layer).eval(), norm, (3, 2, 2))
    weight = layer.weight.detach().double()
    dual = {"l2": 2, "linf": 1, "l1": torch.inf}[norm]
    rows = torch.linalg.vector_norm(weight, dual, dim=1)
    between = torch.linalg.vector_norm(weight[:, None] - weight[None], dual, dim=2)
    assert bool((bound.logits >= rows).all())
    torch.testing.assert_close(bound.logits, rows, rtol=1e-12, atol=0)
    assert bool((bound.pairs >= between).all())
    torch.testing.assert_close(bound.pairs, between, rtol=1e-12, atol=0)
    assert bound.features == 1
    assert bound.whole == pytest.approx(
        float(torch.linalg.matrix_norm(weight, {"l2": 2, "linf": torch.inf, "l1": 1}[norm]))
    )
    assert bound.slope == pytest.approx({"l2": math.sqrt(2), "linf": 2, "l1": 1}[norm] * bound.whole)


def test_linear_layers_in_a_row_are_one_matrix() -> None:
    torch.manual_seed(0)
    dense = [nn.Flatten(), nn.Linear(9, 20), nn.Linear(20, 9), nn.Unflatten(1, (1, 3, 3))]
    net = nn.Sequential(*dense, nn.Conv2d(1, 2, 2), nn.AvgPool2d(2), nn.Flatten())
    bound = graph_bound(net.eval(), (1, 3, 3))
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    for norm in BOUND_NORMS:
        found = attained(net, x, norm)
        assert found <= bound.bounds[norm].whole <= found * (1 + 1e-6)
        assert bound.product[norm] > 1.05 * bound.bounds[norm].whole


class Cropped(nn.Module):
    """A convolution with zeros around what a negative padding leaves of its input."""

    def __init__(self, crop: tuple[int, ...]) -> None:
        super().__init__()
        self.crop = crop
        self.conv = nn.Conv2d(1, 2, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.pad(x, self.crop)).flatten(1)


@pytest.mark.parametrize("crop", [(-1, -1, -1, -1), (-1, 0, 0, -2)])
@pytest.mark.parametrize("ones", [False, True])
def test_what_a_crop_cut_off_stays_away_from_a_padded_convolution(crop: tuple[int, ...], ones: bool) -> None:
    torch.manual_seed(0)
    net = Cropped(crop)
    if ones:
        nn.init.ones_(net.conv.weight)
    with torch.no_grad():
        dense = net(torch.eye(25).view(25, 1, 5, 5)).T.double()
    bound = graph_bound(net, (1, 5, 5))
    (row,) = (row for row in bound.rows if row.op == "conv2d")
    truth = float(torch.linalg.matrix_norm(dense, 2))
    assert row.l1 == pytest.approx(float(dense.abs().sum(0).max()), rel=1e-6)
    assert row.linf == pytest.approx(float(dense.abs().sum(1).max()), rel=1e-6)
    assert row.l2_lower is not None
    assert row.l2_lower <= truth * (1 + 1e-6) and truth * (1 - 1e-6) <= row.l2_upper
    assert bound.bounds["l2"].whole >= truth * (1 - 1e-6)


def test_no_last_linear_layer() -> None:
    bound = graph_bound(nn.Sequential(nn.Linear(4, 3), nn.Tanh()).eval(), (4,))
    for norm in BOUND_NORMS:
        found = bound.bounds[norm]
        assert bool((found.logits <= found.whole).all())
        row = found.pair_row(1)
        assert bool((row <= found.slope * (1 + 1e-12)).all())
        assert float(row[1]) == 0


class InPlace(nn.Module):
    """In-place operators whose old value is read again, through a view."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        view = y.view(-1)
        y.relu_()
        y.mul_(3)
        return view.view(x.shape).flatten(1) + y.flatten(1)


class Overwrites(nn.Module):
    """Overwrites its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2).flatten(1) + x.flatten(1)


@pytest.mark.parametrize(("net", "factor"), [(InPlace(), 12), (Overwrites(), 4)])
def test_in_place_operators_change_every_view(net: nn.Module, factor: float) -> None:
    bound = graph_bound(net.eval(), (1, 2, 2))
    assert [bound.bounds[n].whole for n in BOUND_NORMS] == pytest.approx([factor] * 3)


def test_an_op_without_a_rule_names_itself() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), Do(torch.special.bessel_j0))
    with pytest.raises(EvaluationError, match=r"(?s)bessel_j0.* of layer 2.*@rule.*rules"):
        graph_bound(net.eval(), (1, 2, 2))


def test_other_layers_are_reported_beside_an_infinite_one() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.MultiheadAttention(4, 2, batch_first=True))

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.attention = net

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)[:, None].repeat(1, 3, 1)
            return self.attention(x, x, x, need_weights=False)[0][:, 0]

    bound = graph_bound(Attention().eval(), (4,))
    assert not bound.bounds["l2"].finite
    assert bound.rows[0].op == "linear"
    assert math.isfinite(bound.rows[0].l2_upper)
    assert bound.bounds["l2"].reasons


def test_bad_networks_are_refused() -> None:
    broken = small()
    broken[0].weight.data[0, 0, 0, 0] = math.nan
    with pytest.raises(EvaluationError):
        graph_bound(broken, (1, 6, 6))
    with pytest.raises(EvaluationError, match="input shape"):
        graph_bound(small(), (1, 7, 9))
    with pytest.raises(UsageError, match="shape"):
        graph_bound(small())
    with pytest.raises(EvaluationError, match="other images"):
        graph_bound(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4, track_running_stats=False)).eval(), (1, 2, 2))
    with pytest.raises(EvaluationError, match="random"):
        graph_bound(Do(lambda x: x.flatten(1) + torch.rand(4)), (1, 2, 2))
    with pytest.raises(EvaluationError, match="constant"):
        graph_bound(Do(lambda x: torch.ones(x.shape[0], 3)), (1, 2, 2))
    with pytest.raises(EvaluationError, match="branch"):
        graph_bound(Do(lambda x: x.flatten(1) * (2 if bool(x.sum() > 0) else 1)), (1, 2, 2))


def vision_bound(name: str, side: int) -> GraphBound:
    torch.manual_seed(0)
    module = getattr(torchvision().models, name)(weights=None).eval()
    loaded = from_module(module, (3, side, side), name=name)
    start = time.process_time()
    bound = graph_bound(loaded)
    seconds = time.process_time() - start
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    told = f"{name} {side}x{side}: {seconds:.1f} CPU s, peak {gigabytes:.2f} GB, l2 {bound.bounds['l2'].whole:.3g}"
    sys.stderr.write(told + "\n")
    for norm in BOUND_NORMS:
        assert bound.bounds[norm].finite
        assert bound.bounds[norm].reasons == ()
    layers = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in module.modules())
    assert sum(row.op in ("conv2d", "linear") for row in bound.rows) == layers
    assert all(row.l2_lower is None or 0 <= row.l2_lower <= row.l2_upper for row in bound.rows)
    return bound


def test_resnet18_at_32() -> None:
    bound = vision_bound("resnet18", 32)
    row = next(row for row in bound.rows if row.name == "layer1.0.conv1")
    assert (row.in_shape, row.out_shape) == ((64, 8, 8), (64, 8, 8))
    pairs = bound.bounds["l2"].pair_row(3)
    assert pairs.shape == (1000,)
    assert bool((pairs <= bound.bounds["l2"].slope).all())


@pytest.mark.slow
@pytest.mark.parametrize("side", [32, 224])
@pytest.mark.parametrize("name", ["resnet18", "vgg11", "regnet_x_400mf", "mobilenet_v2"])
def test_torchvision(name: str, side: int) -> None:
    vision_bound(name, side)


def test_residual_network_against_ascent() -> None:
    torch.manual_seed(0)
    net = torchvision().models.resnet18(weights=None, num_classes=4).eval()
    net = nn.Sequential(net.conv1, net.bn1, net.relu, net.layer1, net.avgpool, nn.Flatten(), nn.Linear(64, 4)).eval()
    bound = graph_bound(net, (3, 8, 8))
    pairs = search(net, (3, 8, 8), seed=0, pairs=4, steps=5)
    for norm in BOUND_NORMS:
        assert float(ratios(pairs, norm).max()) <= bound.bounds[norm].whole
