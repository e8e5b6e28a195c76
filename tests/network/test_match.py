"""Checkpoints as people have them: the weights of the network are found whatever stands around them, or one message."""

from __future__ import annotations

import argparse
import datetime
import fractions
import os
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from robcert.errors import EvaluationError, UsageError
from robcert.network import load_model

from .conftest import images

CLASSES = 5
MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(64, num_classes)
    def forward(self, x):
        return self.head(self.backbone(x).flatten(1))

class Real(nn.Module):
    "Has a part that is really called module."
    def __init__(self):
        super().__init__()
        self.module = Net(5)
    def forward(self, x):
        return self.module(x)

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 5)
        self.second.weight = self.first.weight
    def forward(self, x):
        return self.last(self.second(self.first(x.flatten(1))))

def wide(**options):
    return Net(**options)

def deaf(**options):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5, **options))

def strict(num_classes):
    if num_classes < 4:
        raise ValueError("at least 4 classes")
    return Net(num_classes)

def two_rows(num_classes=10):
    "Two rows of the last layer for each class."
    class Pairs(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(16, 2 * num_classes)
        def forward(self, x):
            return self.last(x.flatten(1)).view(len(x), -1, 2).amax(2)
    return Pairs()
"""

State = dict[str, Tensor]


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module above, in the folder where the user stands."""
    import importlib
    import sys

    (tmp_path / "checkpoints.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("checkpoints", None)
    yield importlib.import_module("checkpoints")
    sys.modules.pop("checkpoints", None)


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def other(state: State) -> State:
    """The same network with other weights."""
    return {key: value + 1 if value.is_floating_point() else value for key, value in state.items()}


def submodule_parallel(state: State) -> State:
    """As old training scripts save ``net.features = DataParallel(net.features)``."""
    return {key.replace("backbone.", "backbone.module."): value for key, value in state.items()}


def adam(state: State) -> dict[str, Any]:
    moments = {k: {"exp_avg": value * 2, "step": torch.tensor(3.0)} for k, value in enumerate(state.values())}
    return {"state": moments, "param_groups": [{"lr": 0.1, "params": list(moments)}]}


PLAIN: dict[str, Callable[[State], Any]] = {
    "bare": lambda s: s,
    "OrderedDict": lambda s: OrderedDict(s),
    "wrapped twice, under names of its own": lambda s: {"checkpoint": {"weights_only": s}},
    "a list beside a tensor": lambda s: {"acc": torch.tensor(960), "state_dict": [OrderedDict(s)]},
    "a list at the top": lambda s: [s],
    "a tuple of an epoch and weights": lambda s: (7, s),
    "optimizer beside": lambda s: {"model_state_dict": s, "optimizer_state_dict": adam(s), "epoch": 3, "loss": 0.1},
    "optimizer in front": lambda s: {"optimizer": adam(s), "scaler": {"scale": torch.tensor(2.0)}, "net": s},
    "DataParallel": lambda s: prefixed(s, "module."),
    "DDP of a compiled network": lambda s: {"state_dict": prefixed(s, "module._orig_mod.")},
    "a compiled part": lambda s: {k.replace("backbone.", "backbone._orig_mod."): v for k, v in s.items()},
    "DataParallel of a part": submodule_parallel,
    "FSDP and checkpointing": lambda s: {
        k.replace("backbone.", "_fsdp_wrapped_module.backbone._checkpoint_wrapped_module."): v for k, v in s.items()
    },
    "a prefix of its own": lambda s: prefixed(s, "student.classifier."),
    "Lightning": lambda s: {
        "state_dict": prefixed(s, "model."),
        "optimizer_states": [adam(s)],
        "pytorch-lightning_version": "2.0",
        "loops": {"fit_loop": {"progress": 3}},
    },
    "one dictionary for each part": lambda s: {
        part: {k.removeprefix(f"{part}."): v for k, v in s.items() if k.startswith(f"{part}.")}
        for part in ("head", "backbone")
    },
    "counters": lambda s: {"n_averaged": torch.tensor(3), **prefixed(s, "module.")},
    "the same weights twice": lambda s: {"state_dict": s, "best_state_dict": {k: v.clone() for k, v in s.items()}},
    "half precision": lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
}


def test_what_training_scripts_keep_beside_the_weights(nets: Any, tmp_path: Path) -> None:
    """Settings, dates and accuracies are not made, and are no reason to refuse the weights."""
    net, state = state_of(nets)
    beside = {
        "args": argparse.Namespace(lr=0.1, output=Path("/nowhere"), nested=argparse.Namespace(a=[1])),
        "best": np.float64(93.1),
        "curve": np.arange(12.0).reshape(3, 4),
        "counts": defaultdict(list, a=[1, 2]),
        "when": datetime.datetime(2024, 1, 1),
        "seen": {1, 2},
    }
    for zipped in (True, False):
        torch.save(
            {**beside, "models": defaultdict(dict, best=state)},
            tmp_path / "a.pt",
            _use_new_zipfile_serialization=zipped,
        )
        assert answers_as(load(tmp_path / "a.pt"), net)


def test_any_other_object_is_refused_as_before(nets: Any, tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return Path.touch, (tmp_path / "made",)

    _, state = state_of(nets)
    for thing in (Touch(), nn.Linear(2, 2), os.system, fractions.Fraction(1, 2)):
        try:
            torch.save({"state_dict": state, "thing": thing}, tmp_path / "a.pt")
        except (pickle.PicklingError, AttributeError):
            (tmp_path / "a.pt").write_bytes(b"")
        with pytest.raises(EvaluationError):
            load(tmp_path / "a.pt")
    assert not (tmp_path / "made").exists()


def load(path: Path, arch: str = "checkpoints:Net", **options: Any) -> Any:
    options.setdefault("input_shape", (1, 4, 4))
    return load_model(path, arch=arch, **options)


def state_of(nets: Any) -> tuple[nn.Module, State]:
    net = nets.Net(CLASSES).eval()
    with torch.no_grad():
        net.backbone[1].running_mean.uniform_(-1, 1)
    return net, net.state_dict()


def answers_as(model: Any, net: nn.Module, far: float = 1e-5) -> bool:
    return torch.allclose(model.module(images()), net(images()), atol=far)


@pytest.mark.parametrize("form", PLAIN)
def test_weights_are_found(nets: Any, tmp_path: Path, form: str) -> None:
    net, state = state_of(nets)
    torch.save(PLAIN[form](state), tmp_path / "a.pt")
    model = load(tmp_path / "a.pt")
    assert answers_as(model, net, 1e-2 if form == "half precision" else 1e-5)
    assert model.notes == (), "there was nothing to choose and nothing was left out"


SURPLUS: dict[str, tuple[Callable[[State], Any], str]] = {
    "a loss beside a prefix": (
        lambda s: {"state_dict": {**prefixed(s, "model."), "criterion.weight": torch.ones(5)}},
        "1 tensors were not used: state_dict.criterion.weight 5",
    ),
    "a loss in the place of the network": (
        lambda s: {**s, "loss_fn.pos_weight": torch.ones(5)},
        "loss_fn.pos_weight 5",
    ),
    "a metric": (lambda s: {**s, "train_accuracy.correct": torch.tensor(3)}, "train_accuracy.correct scalar"),
    "all but one key prefixed": (lambda s: {**prefixed(s, "module."), "temperature": torch.ones(1)}, "temperature 1"),
    "another head": (
        lambda s: {**prefixed(s, "encoder."), "projection.weight": torch.ones(3, 4)},
        "projection.weight 3x4",
    ),
    "another network": (
        lambda s: {"generator": s, "discriminator": {"0.weight": torch.ones(3, 4), "0.bias": torch.ones(3)}},
        "1 tensors were not used: discriminator.0.weight 3x4",
    ),
    "a normalisation": (
        lambda s: {
            **prefixed(s, "module.model."),
            "module.normalizer.new_mean": torch.tensor([0.5, 0.25, 0.125]).view(3, 1, 1),
            "module.normalizer.new_std": torch.tensor([0.25, 0.5, 1.0]).view(3, 1, 1),
        },
        "If they normalise the images: --mean 0.5,0.25,0.125 --std 0.25,0.5,1",
    ),
    "a normalisation in the place of the network": (
        lambda s: {**s, "normalize.mean": torch.tensor([0.1307]), "normalize.std": torch.tensor([0.3081])},
        "--mean 0.1307 --std 0.3081",
    ),
}


@pytest.mark.parametrize("form", SURPLUS)
def test_what_is_not_used_is_told_in_one_note(nets: Any, tmp_path: Path, form: str) -> None:
    net, state = state_of(nets)
    make, said = SURPLUS[form]
    torch.save(make(state), tmp_path / "a.pt")
    model = load(tmp_path / "a.pt")
    assert answers_as(model, net)
    (note,) = model.notes
    assert said in note
    assert "a.pt" in note


@pytest.mark.parametrize(
    "more",
    [
        {"backbone.3.weight": torch.ones(4, 4, 3, 3)},
        {"head2.weight": torch.ones(5, 5), "head2.bias": torch.ones(5)},
        {"scale": torch.ones(5)},
        {"norm.weight": torch.ones(5), "norm.bias": torch.ones(5)},
        {"normalization.weight": torch.ones(5), "normalization.bias": torch.ones(5)},
        {"loss.centers": torch.ones(5, 8)},
        {"head.criterion": torch.ones(5)},
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_more_than_the_network_in_its_place_is_refused(nets: Any, tmp_path: Path, more: State, prefix: str) -> None:
    """They may be weights of the network that was saved: without them it is another one."""
    torch.save({"state_dict": prefixed({**state_of(nets)[1], **more}, prefix)}, tmp_path / "a.pt")
    with pytest.raises(EvaluationError, match=f"and {len(more)} more beside them: state_dict") as caught:
        load(tmp_path / "a.pt")
    assert "all weights of 'checkpoints:Net' are in" in caught.value.found
    assert "del state" in caught.value.do


def test_a_part_of_a_larger_network_is_not_taken_for_the_whole(nets: Any, tmp_path: Path) -> None:
    net, state = state_of(nets)
    larger = {**prefixed(state, "first."), **{f"second.{k}.weight": torch.ones(4, 4) for k in range(3)}}
    torch.save(larger, tmp_path / "a.pt")
    with pytest.raises(EvaluationError, match=r"most of what is beside them .* second.0.weight 4x4") as caught:
        load(tmp_path / "a.pt")
    assert "--weights-key first" in caught.value.do
    assert answers_as(load(tmp_path / "a.pt", weights_key="first"), net), "unless one says that it is"


def test_averaged_weights_are_a_choice(nets: Any, tmp_path: Path) -> None:
    net, state = state_of(nets)
    averaged = nets.Net(CLASSES).eval()
    averaged.load_state_dict(other(state))
    for raw, ema, content in (
        ("state_dict", "state_dict_ema", {"state_dict_ema": other(state), "state_dict": state}),
        ("model", "ema.module", {"model": state, "ema": {"module": other(state), "decay": 0.99}}),
        ("model", "ema_model", {**prefixed(other(state), "ema_model."), **prefixed(state, "model.")}),
        ("models.0", "models[1]", {"models": [state, other(state)]}),
    ):
        torch.save(content, tmp_path / "a.pt")
        model = load(tmp_path / "a.pt")
        assert answers_as(model, net), "what was trained, where nothing is said"
        (note,) = model.notes
        assert f"2 sets of weights that fit: {raw} was taken" in note
        assert "--weights-key" in note
        chosen = load(tmp_path / "a.pt", weights_key=ema)
        assert answers_as(chosen, averaged)
        assert chosen.notes == ()
        assert answers_as(load(tmp_path / "a.pt", weights_key=raw), net)
        assert model.source.network != chosen.source.network, "another run"


def test_averaged_weights_alone(nets: Any, tmp_path: Path) -> None:
    net, state = state_of(nets)
    torch.save({"state_dict_ema": prefixed(state, "module."), "epoch": 3}, tmp_path / "a.pt")
    assert answers_as(load(tmp_path / "a.pt"), net)


def test_a_key_that_is_not_there_or_of_no_use(nets: Any, tmp_path: Path) -> None:
    _, state = state_of(nets)
    torch.save({"state_dict": state, "state_dict_ema": other(state)}, tmp_path / "a.pt")
    with pytest.raises(UsageError, match="no tensors under --weights-key state_dict_em") as caught:
        load(tmp_path / "a.pt", weights_key="state_dict_em")
    assert "Did you mean 'state_dict_ema'" in caught.value.do
    with pytest.raises(EvaluationError, match="do not fit"):
        load(tmp_path / "a.pt", weights_key="state_dict.head")
    torch.jit.save(torch.jit.script(nets.Net(CLASSES).eval()), str(tmp_path / "script.pt"))
    with pytest.raises(UsageError, match="holds a network, not sets of weights"):
        load_model(tmp_path / "script.pt", input_shape=(1, 4, 4), weights_key="state_dict")


def test_safetensors_are_matched_likewise(nets: Any, tmp_path: Path) -> None:
    net, state = state_of(nets)
    both = {**prefixed(other(state), "ema."), **prefixed(state, "net.")}
    save_file({key: value.clone() for key, value in both.items()}, tmp_path / "a.safetensors")
    assert answers_as(load(tmp_path / "a.safetensors"), net)
    assert not answers_as(load(tmp_path / "a.safetensors", weights_key="ema"), net)


def test_a_part_that_is_really_called_module(nets: Any, tmp_path: Path) -> None:
    net = nets.Real().eval()
    for prefix in ("", "module.", "_orig_mod."):
        torch.save(prefixed(net.state_dict(), prefix), tmp_path / "a.pt")
        assert answers_as(load(tmp_path / "a.pt", "checkpoints:Real"), net)


def test_a_tensor_of_two_names_may_be_there_once(nets: Any, tmp_path: Path) -> None:
    net = nets.Tied().eval()
    state = net.state_dict()
    del state["second.weight"]
    torch.save(state, tmp_path / "a.pt")
    assert answers_as(load(tmp_path / "a.pt", "checkpoints:Tied"), net)
    del state["first.weight"]
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(EvaluationError, match="2 missing"):
        load(tmp_path / "a.pt", "checkpoints:Tied")


@pytest.mark.parametrize("arch", ["checkpoints:Net", "checkpoints:wide", "checkpoints:strict"])
@pytest.mark.parametrize("likely", [None, 2, 10])
def test_the_number_of_classes_is_that_of_the_weights(nets: Any, tmp_path: Path, arch: str, likely: int | None) -> None:
    net, state = state_of(nets)
    torch.save({"state_dict": state}, tmp_path / "a.pt")
    if arch == "checkpoints:strict" and likely == 2:
        with pytest.raises(EvaluationError, match="at least 4 classes"):
            load(tmp_path / "a.pt", arch, num_classes=2)
    model = load(tmp_path / "a.pt", arch, likely_classes=likely)
    assert model.num_classes == CLASSES
    assert answers_as(model, net)
    with pytest.raises(EvaluationError, match=r"head.weight is \(5, 64\), expected \(7, 64\)") as caught:
        load(tmp_path / "a.pt", arch, num_classes=7)
    assert "--classes" in caught.value.do, "what is demanded is not changed"


def test_a_factory_that_passes_no_classes_on(nets: Any, tmp_path: Path) -> None:
    net = nets.deaf().eval()
    torch.save(net.state_dict(), tmp_path / "a.pt")
    assert answers_as(load(tmp_path / "a.pt", "checkpoints:deaf", likely_classes=3), net)


def test_several_rows_for_a_class(nets: Any, tmp_path: Path) -> None:
    net = nets.two_rows(4).eval()
    torch.save(net.state_dict(), tmp_path / "a.pt")
    assert load(tmp_path / "a.pt", "checkpoints:two_rows", likely_classes=3).num_classes == 4


def test_the_head_is_found_whatever_the_order_of_the_keys(nets: Any, tmp_path: Path) -> None:
    from robcert.vision import torchvision

    net = torchvision().models.resnet18(num_classes=6).eval()
    save_file(net.state_dict(), tmp_path / "a.safetensors")  # sorted: layer4 comes after fc
    model = load_model(tmp_path / "a.safetensors", arch="torchvision:resnet18", input_shape=(3, 32, 32))
    assert model.num_classes == 6


def test_heads_that_are_used_in_training_only(tmp_path: Path) -> None:
    from robcert.vision import torchvision

    for aux in (True, False):
        net = torchvision().models.googlenet(num_classes=4, init_weights=False, aux_logits=aux).eval()
        torch.save(net.state_dict(), tmp_path / "a.pt")
        model = load_model(tmp_path / "a.pt", arch="torchvision:googlenet", input_shape=(3, 64, 64))
        assert model.num_classes == 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"epoch": 3, "args": ["a"]}, "holds no tensors .* epoch, args"),
        ([], "holds no tensors .* nothing"),
        ({"weight": torch.ones(3)}, "do not fit the architecture 'checkpoints:Net' .*(?s:.*)8 missing"),
    ],
)
def test_checkpoints_without_the_network(nets: Any, tmp_path: Path, content: Any, says: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(EvaluationError, match=says) as caught:
        load(tmp_path / "a.pt")
    assert caught.value.do


def test_what_does_not_fit_is_counted_where_most_of_it_is(nets: Any, tmp_path: Path) -> None:
    _, state = state_of(nets)
    spoiled = {key: value for key, value in state.items() if key != "head.bias"}
    spoiled["backbone.0.weight"] = torch.ones(4, 3, 3, 3)
    torch.save({"net": prefixed({**spoiled, "extra.weight": torch.ones(2)}, "module.")}, tmp_path / "a.pt")
    with pytest.raises(EvaluationError) as caught:
        load(tmp_path / "a.pt")
    for text in (
        "under net.module",
        "1 missing: head.bias",
        "1 unexpected: extra.weight",
        "backbone.0.weight is (4, 3, 3, 3), expected (4, 1, 3, 3)",
    ):
        assert text in caught.value.found


def test_other_parts_of_a_checkpoint_may_be_infinite_or_sparse(nets: Any, tmp_path: Path) -> None:
    net, state = state_of(nets)
    beside = {"moment": torch.tensor([float("inf")]), "mask": torch.eye(3).to_sparse()}
    torch.save({"model": state, "optimizer": beside}, tmp_path / "a.pt")
    assert answers_as(load(tmp_path / "a.pt"), net)
    torch.save({"model": {**state, "head.bias": torch.tensor([1.0, 2, 3, 4, float("nan")])}}, tmp_path / "a.pt")
    with pytest.raises(EvaluationError, match=r"'head.bias' are NaN"):
        load(tmp_path / "a.pt")
