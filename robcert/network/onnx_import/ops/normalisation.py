"""Normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, apply

_BATCH = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INSTANCE = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def _parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.reshape(-1).float().contiguous(), requires_grad=False)


@op("BatchNormalization", 7, 9, 14, 15)
def batch_norm(node: Node) -> Apply:
    """With the statistics of the file."""
    if node.get("training_mode", 0) or node.outputs > 1:
        node.refuse("it normalises with the statistics of the batch", "Export the network after eval().")
    node.get("momentum")
    if node.get("spatial", 1) != 1:
        node.refuse("it has statistics for each entry (spatial=0)")
    kind = _BATCH.get(node.x.rank)
    if kind is None:
        node.refuse(f"its input has {node.x.rank} axes")
    channels = node.channels()
    layer: Any = kind(channels, node.get("epsilon", 1e-5), device="meta")
    names = ("weight", "bias", "running_mean", "running_var")
    for index, name in enumerate(names, 1):
        tensor = node.tensor(index, name)
        if tensor.numel() != channels:
            node.refuse(f"its {name} has {tensor.numel()} entries for {channels} channels")
        setattr(layer, name, _parameter(tensor) if index < 3 else tensor.reshape(-1).float().contiguous())
    layer.num_batches_tracked = torch.zeros((), dtype=torch.int64)
    return apply(layer, node.x)


@op("InstanceNormalization", 6, 22)
def instance_norm(node: Node) -> Apply:
    """Each channel of each image by its own mean and variance."""
    kind = _INSTANCE.get(node.x.rank)
    if kind is None:
        node.refuse(f"its input has {node.x.rank} axes")
    layer = kind(node.channels(), node.get("epsilon", 1e-5), affine=True)
    layer.weight, layer.bias = _parameter(node.tensor(1, "scale")), _parameter(node.tensor(2, "bias"))
    return apply(layer, node.x)


@op("LayerNormalization", 17)
def layer_norm(node: Node) -> Apply:
    """Over the axis and all behind it."""
    axis, epsilon = node.axis(node.get("axis", -1)), node.get("epsilon", 1e-5)
    node.get("stash_type")
    if node.outputs > 1:
        node.refuse("its mean or deviation is read, and only its values are supported")
    sizes = _sizes(node, axis)
    scale, bias = node.input(1), node.input(2) if node.has(2) else None
    whole = [scale, *([bias] if bias is not None else [])]
    if all(v.constant and list(v.probes[0].shape) == sizes for v in whole):
        layer = nn.LayerNorm(sizes, epsilon, bias=bias is not None)
        layer.weight = nn.Parameter(scale.probes[0].float(), requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias.probes[0].float(), requires_grad=False)
        return apply(layer, node.x)
    return apply(_layer_norm, node.x, scale, bias if bias is not None else 0.0, sizes, epsilon)


def _layer_norm(x: Tensor, scale: Tensor, bias: Any, sizes: list[int], epsilon: float) -> Tensor:
    return functional.layer_norm(x, sizes, None, None, epsilon) * scale + bias


@op("RMSNormalization", 23)
def rms_norm(node: Node) -> Apply:
    """Divided by the root of the mean square over the axis and all behind it."""
    axis, epsilon = node.axis(node.get("axis", -1)), node.get("epsilon", 1e-5)
    node.get("stash_type")
    return apply(_rms_norm, node.x, node.input(1), _sizes(node, axis), epsilon)


def _rms_norm(x: Tensor, scale: Tensor, sizes: list[int], epsilon: float) -> Tensor:
    return functional.rms_norm(x, sizes, None, epsilon) * scale


def _sizes(node: Node, axis: int) -> list[int]:
    sizes = node.x.shape[axis:]
    if not all(s.constant for s in sizes):
        node.refuse("it normalises over the images")
    return [s.fixed for s in sizes]


@op("GroupNormalization", 18, 21)
def group_norm(node: Node) -> Apply:
    """Over groups of channels; before 21 with one scale a group, since then with one a channel."""
    groups, channels = int(node.get("num_groups", 1)), node.channels()
    node.get("stash_type")
    if groups < 1 or channels % groups:
        node.refuse(f"{channels} channels do not divide into {groups} groups")
    layer = nn.GroupNorm(groups, channels, node.get("epsilon", 1e-5), device="meta")
    for index, name in ((1, "weight"), (2, "bias")):
        tensor = node.tensor(index, name)
        if node.version == 18:
            tensor = tensor.reshape(-1).repeat_interleave(channels // groups)
        setattr(layer, name, _parameter(tensor))
    return apply(layer, node.x)


@op("LRN", 1, 13)
def local_response(node: Node) -> Apply:
    """x / (bias + alpha / size * sum of squares over neighbouring channels)^beta."""
    size = int(node.get("size", 1))
    found = (node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0))
    return apply(_local_response, node.x, size, *found)


def _local_response(x: Tensor, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    low = (size - 1) // 2
    squares = functional.pad((x * x).flatten(2).mT, (low, size - 1 - low))
    means = functional.avg_pool1d(squares, size, 1).mT.unflatten(2, x.shape[2:])
    return x / (bias + alpha * means) ** beta


@op("MeanVarianceNormalization", 9, 13)
def mean_variance(node: Node) -> Apply:
    """(x - mean) / (standard deviation + 1e-9) over the axes."""
    return apply(_mean_variance, node.x, node.axes(node.get("axes", [0, 2, 3])))


def _mean_variance(x: Tensor, axes: list[int]) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred / (torch.sqrt(centred.square().mean(axes, keepdim=True)) + 1e-9)


@op("LpNormalization", 1, 22)
def lp_normalisation(node: Node) -> Apply:
    """x over its p norm along one axis; 0 where the norm is 0."""
    return apply(_normalised, node.x, node.axis(node.get("axis", -1)), float(node.get("p", 2)))


def _normalised(x: Tensor, axis: int, p: float) -> Tensor:
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)
