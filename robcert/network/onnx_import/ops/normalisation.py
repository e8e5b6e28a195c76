"""Normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robcert.network.onnx_import.network import filled
from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.ops.windows import of_axes
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, apply


@op("BatchNormalization", 7, 9, 14, 15)
def batch_norm(node: Node) -> Apply:
    """With the statistics of the file."""
    if node.get("training_mode", 0) or node.outputs > 1:
        node.refuse("it normalises with the statistics of the batch", "Export the network after eval().")
    node.ignore("momentum")
    if node.get("spatial", 1) != 1:
        node.refuse("it has statistics for each entry (spatial=0)")
    axes, channels = _axes(node, 0), node.channels()
    tensors = {
        name: node.tensor(i, name) for i, name in enumerate(("weight", "bias", "running_mean", "running_var"), 1)
    }
    for name, tensor in tensors.items():
        if tensor.numel() != channels:
            node.refuse(f"its {name} has {tensor.numel()} entries for {channels} channels")
    rows = {name: tensor.reshape(-1).float().contiguous() for name, tensor in tensors.items()}
    layer = of_axes(nn, "BatchNorm{}d", max(axes, 1))(channels, node.get("epsilon", 1e-5), device="meta")
    layer.running_mean, layer.running_var = rows.pop("running_mean"), rows.pop("running_var")
    layer.num_batches_tracked = torch.zeros((), dtype=torch.int64)
    return apply(filled(layer, **rows), node.x)


@op("InstanceNormalization", 6, 22)
def instance_norm(node: Node) -> Apply:
    """Each channel of each image by its own mean and variance."""
    layer = of_axes(nn, "InstanceNorm{}d", _axes(node, 1))(node.channels(), node.get("epsilon", 1e-5), affine=True)
    weight, bias = node.tensor(1, "scale").reshape(-1), node.tensor(2, "bias").reshape(-1)
    return apply(filled(layer, weight=weight, bias=bias), node.x)


def _axes(node: Node, fewest: int) -> int:
    """The number of spatial axes."""
    if not fewest <= node.x.rank - 2 <= 3:
        node.refuse(f"its input has {node.x.rank} axes")
    return node.x.rank - 2


@op("LayerNormalization", 17)
def layer_norm(node: Node) -> Apply:
    """Over the axis and all behind it."""
    epsilon, sizes = node.get("epsilon", 1e-5), _sizes(node)
    if node.outputs > 1:
        node.refuse("its mean or deviation is read, and only its values are supported")
    scale, bias = node.input(1), node.input(2) if node.has(2) else None
    whole = [scale, *([bias] if bias is not None else [])]
    if all(v.constant and list(v.probes[0].shape) == sizes for v in whole):
        layer = nn.LayerNorm(sizes, epsilon, bias=bias is not None)
        return apply(filled(layer, weight=scale.probes[0], bias=None if bias is None else bias.probes[0]), node.x)

    def computed(x: Tensor, scale: Tensor, bias: Any) -> Tensor:
        return functional.layer_norm(x, sizes, None, None, epsilon) * scale + bias

    return apply(computed, node.x, scale, bias if bias is not None else 0.0)


@op("RMSNormalization", 23)
def rms_norm(node: Node) -> Apply:
    """Divided by the root of the mean square over the axis and all behind it."""
    epsilon, sizes = node.get("epsilon", 1e-5), _sizes(node)
    return apply(lambda x, scale: functional.rms_norm(x, sizes, None, epsilon) * scale, node.x, node.input(1))


def _sizes(node: Node) -> list[int]:
    """The sizes of the axis and all behind it."""
    node.ignore("stash_type")
    sizes = node.x.shape[node.axis(node.get("axis", -1)) :]
    if not all(s.constant for s in sizes):
        node.refuse("it normalises over the images")
    return [s.fixed for s in sizes]


@op("GroupNormalization", 18, 21)
def group_norm(node: Node) -> Apply:
    """Over groups of channels; before 21 with one scale a group, since then with one a channel."""
    groups, channels = int(node.get("num_groups", 1)), node.channels()
    node.ignore("stash_type")
    if groups < 1 or channels % groups:
        node.refuse(f"{channels} channels do not divide into {groups} groups")
    layer = nn.GroupNorm(groups, channels, node.get("epsilon", 1e-5), device="meta")
    weight, bias = (node.tensor(index, name).reshape(-1) for index, name in ((1, "weight"), (2, "bias")))
    if node.version == 18:
        weight, bias = (tensor.repeat_interleave(channels // groups) for tensor in (weight, bias))
    return apply(filled(layer, weight=weight, bias=bias), node.x)


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
