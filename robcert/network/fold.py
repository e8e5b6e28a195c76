"""Folding: parametrised weights and BatchNorm in eval mode, fixed once training ended, are computed once.

Both change the rounding of the weights, never the function. The result is compared with the network it came
from and dropped where it does not agree.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import fuse_conv_bn_weights, fuse_linear_bn_weights, parametrize

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TOLERANCE = 1e-5
"""Relative to the largest |logit|: far above the rounding of folded weights, far below any mistake."""


def fold(module: nn.Module, input_shape: tuple[int, ...], box: tuple[float, float]) -> nn.Module:
    """Return the network with parametrisations computed and BatchNorm folded into the layer before it.

    Args:
        module: a float32 network in eval mode on the CPU; it is changed and must not be used afterwards.
        input_shape: the shape of one image.
        box: the smallest and the largest value of an input entry.

    Returns:
        A network with the same answers; layers and their names stay where they were (a folded BatchNorm
        leaves an ``nn.Identity``).
    """
    for step in (remove_parametrizations, fold_batchnorms):
        try:
            changed = copy_module(module)
            if step(changed) and agrees(changed, module, input_shape, box):
                module = changed
        except Exception:  # an unfolded network is as right as a folded one
            continue
    return module


def copy_module(module: nn.Module) -> nn.Module:
    """Return a deep copy, also where deepcopy refuses: a layer that keeps a computed weight (old weight_norm)."""
    memo: dict[int, Any] = {}
    for layer in module.modules():
        for value in vars(layer).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    copied = copy.deepcopy(module, memo)
    for layer in copied.modules():
        if parametrize.is_parametrized(layer):
            # A parametrised layer has a class of its own, which deepcopy shares: removing the parametrisation
            # from the copy would remove it from the original's class too.
            shared = type(layer)
            fields = {k: v for k, v in vars(shared).items() if k not in ("__dict__", "__weakref__")}
            layer.__class__ = cast("type[nn.Module]", type(shared.__name__, shared.__bases__, fields))
    return copied


def remove_parametrizations(module: nn.Module) -> int:
    """Replace every parametrised weight by its value; returns how many there were."""
    from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
    from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

    count = 0
    for layer in list(module.modules()):
        if parametrize.is_parametrized(layer):
            for name in list(cast(Any, layer).parametrizations):
                parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
                count += 1
        hooks = cast("dict[int, Any]", vars(layer)["_forward_pre_hooks"])  # the old style has no public look-up
        for hook in list(hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(layer, hook.name)
                count += 1
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(layer, hook.name)
                count += 1
    return count


def fold_batchnorms(module: nn.Module) -> int:
    """Fold each BatchNorm that directly follows a convolution or linear layer; returns how many.

    The trace only finds the pairs. The network itself is kept, so what cannot be seen in a trace (its class,
    custom layers, the dynamic batch dimension) stays as it was. A part that cannot be traced is searched by
    its children.
    """
    owners: dict[int, int] = {}
    for _, layer in module.named_modules(remove_duplicate=False):
        owners[id(layer)] = owners.get(id(layer), 0) + 1
    return sum(_fold_pair(module, layer, norm) for layer, norm in _pairs(module) if owners[id(layer)] == 1)


class LayerTracer(fx.Tracer):
    """Keeps layers whole: torch's own and robcert's, except blocks that have a BatchNorm inside."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether ``m`` stays one node of the graph."""
        if isinstance(m, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            return False
        if type(m).__module__.startswith("robcert."):
            return not any(isinstance(child, _NORMS) for child in m.modules())
        return super().is_leaf_module(m, module_qualified_name)


def _pairs(module: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """(layer, BatchNorm after it) where the BatchNorm reads nothing else and nothing else reads the layer."""
    try:
        graph = LayerTracer().trace(module)
    except Exception:  # control flow, len(), asserts on shapes: all kinds of Python
        return [pair for child in module.children() for pair in _pairs(child)]
    layers = dict(module.named_modules())
    calls: dict[int, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            key = id(layers[str(node.target)])
            calls[key] = calls.get(key, 0) + 1
    found: list[tuple[nn.Module, nn.Module]] = []
    for node in graph.nodes:
        if node.op != "call_module" or len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
            continue
        before = node.args[0]
        norm = layers[str(node.target)]
        if not isinstance(norm, _NORMS) or before.op != "call_module" or len(before.users) != 1:
            continue
        layer = layers[str(before.target)]
        once = calls[id(layer)] == 1 and calls[id(norm)] == 1
        if once and not isinstance(layer, _NORMS) and _plain(layer) and _plain(norm):
            found.append((layer, norm))
    return found


def _plain(layer: nn.Module) -> bool:
    """Return whether a layer does what its class says: no subclass, no hook, no running statistics missing."""
    if vars(layer)["_forward_pre_hooks"] or vars(layer)["_forward_hooks"] or parametrize.is_parametrized(layer):
        return False
    if type(layer) in _NORMS:
        return cast(Any, layer).running_mean is not None
    return type(layer) in (*_CONVS, *_TRANSPOSED, nn.Linear)


def _fold_pair(root: nn.Module, layer: nn.Module, norm: nn.Module) -> int:
    a, b = cast(Any, layer), cast(Any, norm)

    def wide(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.detach().double()

    statistics = (wide(b.running_mean), wide(b.running_var), b.eps, wide(b.weight), wide(b.bias))
    if isinstance(layer, nn.Linear):
        if layer.out_features != b.num_features:
            return 0
        weight, bias = fuse_linear_bn_weights(wide(a.weight), wide(a.bias), *statistics)  # pyright: ignore
    else:
        if isinstance(layer, _TRANSPOSED) and a.groups != 1:
            return 0
        weight, bias = fuse_conv_bn_weights(
            wide(a.weight),  # pyright: ignore[reportArgumentType]
            wide(a.bias),
            *statistics,  # pyright: ignore[reportArgumentType]
            transpose=isinstance(layer, _TRANSPOSED),
        )
    a.weight = nn.Parameter(weight.detach().to(a.weight.dtype), requires_grad=False)
    a.bias = nn.Parameter(bias.detach().to(a.weight.dtype), requires_grad=False)
    for parent in root.modules():
        for name, child in list(parent.named_children()):
            if child is norm:
                setattr(parent, name, nn.Identity().eval())
    return 1


def agrees(
    one: nn.Module, other: nn.Module, input_shape: tuple[int, ...], box: tuple[float, float], images: int = 2
) -> bool:
    """Return whether two networks give the same logits on random images, in float64 where that is possible."""
    generator = torch.Generator().manual_seed(1)
    low, high = box
    x = low + (high - low) * torch.rand(images, *input_shape, generator=generator)

    def answers(prepare: Callable[[nn.Module], nn.Module], x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            first = prepare(one)(x)
            torch.manual_seed(0)
            return first, prepare(other)(x)

    try:
        a, b = answers(lambda module: copy_module(module).double(), x.double())
        tolerance = TOLERANCE
    except Exception:  # constants of a fixed type inside the network
        a, b = answers(lambda module: module, x)
        tolerance = 10 * TOLERANCE
    difference = (a.double() - b.double()).abs().amax(-1)
    return bool((difference <= tolerance * b.double().abs().amax(-1)).all())
