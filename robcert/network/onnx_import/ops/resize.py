"""Images of another size."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.ops.joining import selected
from robcert.network.onnx_import.table import op
from robcert.network.onnx_import.values import Apply, apply, known


@op("Upsample", 7, 9)
@op("Resize", 10)
def upsample(node: Node) -> Apply:
    """To scales, which are an attribute before 9.

    How Resize rounds for smaller sizes was left open by the standard in version 10: as onnxruntime does, then.
    """
    scales = node.tensor(1, "scales").tolist() if node.has(1) else node.get("scales", [])
    rounding = "ceil_of_smaller" if node.op == "Resize" else "floor"
    return _resized(node, [float(s) for s in scales], None, node.get("mode", "nearest"), "asymmetric", rounding)


@op("Resize", 11, 13, 18, 19)
def resize(node: Node) -> Apply:
    """To scales or sizes, by nearest or linear interpolation, with the coordinates that are asked for."""
    coordinates = node.get("coordinate_transformation_mode", "half_pixel")
    rounding, mode = node.get("nearest_mode", "round_prefer_floor"), node.get("mode", "nearest")
    node.ignore("cubic_coeff_a", "extrapolation_value", "exclude_outside")
    if node.get("antialias", 0) or node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        node.refuse("it smooths, or keeps the aspect ratio")
    axes = node.get("axes")
    scales = [float(s) for s in node.tensor(2, "scales").tolist()] if node.has(2) else []
    sizes = node.extents(3, "sizes") if node.has(3) else []
    rank = node.x.rank
    where = list(range(rank)) if axes is None else [node.axis(int(a)) for a in axes]
    given = [1.0] * rank
    wanted: list[int] | None = None
    if sizes:
        wanted = [s.fixed for s in node.x.shape]
        for axis, size in zip(where, sizes, strict=True):
            whole = node.x.shape[axis]
            if not whole.constant:
                if size != whole and size.fixed != (node.fixed or -1):
                    node.refuse("it changes the number of images")
                continue
            if not size.constant or size.fixed < 1:
                node.refuse("its sizes depend on the number of images, or are not positive")
            wanted[axis], given[axis] = size.fixed, size.fixed / whole.fixed
    elif scales:
        for axis, scale in zip(where, scales, strict=True):
            given[axis] = scale
    else:
        node.refuse("it has neither scales nor sizes")
    return _resized(node, given, wanted, mode, coordinates, rounding)


def _resized(
    node: Node, scales: list[float], sizes: list[int] | None, mode: str, coordinates: str, rounding: str
) -> Apply:
    rank = node.x.rank
    if len(scales) != rank or not all(math.isfinite(s) and s > 0 for s in scales):
        node.refuse(f"its scales {scales} do not fit an input with {rank} axes")
    if mode not in ("nearest", "linear"):
        node.refuse(f"its mode is {mode!r} (nearest and linear are read)")
    changed: dict[int, tuple[int, int, float]] = {}
    for axis, (scale, whole) in enumerate(zip(scales, node.x.shape, strict=True)):
        if scale == 1 and (sizes is None or whole.per_image or sizes[axis] == whole.fixed):
            continue
        if not whole.constant:
            node.refuse("it changes the number of images")
        target = math.floor(whole.fixed * scale) if sizes is None else sizes[axis]
        if target < 1 or target > 2**20:
            node.refuse(f"axis {axis} would have {target} entries")
        changed[axis] = (whole.fixed, target, scale)
    whole_factors = all(target == size * round(scale) for size, target, scale in changed.values())
    spatial = bool(changed) and min(changed) >= 2 and rank in (3, 4, 5)
    wanted = [changed[a][1] if a in changed else node.x.shape[a].fixed for a in range(2, rank)] if spatial else []
    if spatial and mode == "nearest" and whole_factors:
        enlarged = all(scale == round(scale) and scale >= 1 for _, _, scale in changed.values())
        same = coordinates == "asymmetric" and rounding in ("floor", "ceil_of_smaller")
        if enlarged and (same or (coordinates == "half_pixel" and "round" in rounding)):
            return apply(nn.Upsample(size=tuple(wanted), mode="nearest"), node.x)
    kinds = {3: "linear", 4: "bilinear", 5: "trilinear"}
    if spatial and mode == "linear" and coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        exact = all(target == size * scale for size, target, scale in changed.values())
        single = any(target == 1 for _, target, _ in changed.values())
        if exact and not single:
            corners = coordinates == "align_corners"
            return apply(nn.Upsample(size=tuple(wanted), mode=kinds[rank], align_corners=corners), node.x)
    if coordinates not in _COORDINATES:
        node.refuse(f"its coordinate_transformation_mode is {coordinates!r}")
    if mode == "nearest" and rounding not in _ROUNDING:
        node.refuse(f"its nearest_mode is {rounding!r}")
    sources = {a: _COORDINATES[coordinates](torch.arange(c[1], dtype=torch.float32), *c) for a, c in changed.items()}
    if mode == "nearest":
        nearest = {a: _ROUNDING[rounding](at, changed[a][2]).long() for a, at in sources.items()}
        return selected(node, {a: at.clamp(0, changed[a][0] - 1) for a, at in nearest.items()})
    matrices = [known(node.name, _weights(at, changed[a][0])) for a, at in sources.items()]
    return apply(_interpolate, node.x, list(sources), matrices)


# In float32, as onnxruntime computes it: whether an entry lies just below or just above the middle of two others
# decides which one is the nearest.
_COORDINATES: dict[str, Callable[[Tensor, int, int, float], Tensor]] = {
    "asymmetric": lambda at, size, target, scale: at / scale,
    "half_pixel": lambda at, size, target, scale: (at + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda at, size, target, scale: (at + 0.5) / scale - 0.5 if target > 1 else 0 * at,
    "align_corners": lambda at, size, target, scale: at * (size - 1) / (target - 1) if target > 1 else 0 * at,
    "half_pixel_symmetric": lambda at, size, target, scale: (
        size / 2 * (1 - target / (scale * size)) + (at + 0.5) / scale - 0.5
    ),
    "tf_half_pixel_for_nn": lambda at, size, target, scale: (at + 0.5) / scale,
}
"""The place in the input (of ``size`` entries) of each entry of the result (of ``target`` entries)."""

_ROUNDING: dict[str, Callable[[Tensor, float], Tensor]] = {
    "ceil_of_smaller": lambda at, scale: at.ceil() if scale < 1 else at.floor(),
    "floor": lambda at, scale: at.floor(),
    "ceil": lambda at, scale: at.ceil(),
    "round_prefer_floor": lambda at, scale: (at - 0.5).ceil(),
    "round_prefer_ceil": lambda at, scale: (at + 0.5).floor(),
}


def _weights(places: Tensor, size: int) -> Tensor:
    """The matrix (target, size) of linear interpolation; beyond the ends, the end."""
    places = places.clamp(0, size - 1)
    low = places.floor().long().clamp(0, max(size - 2, 0))
    share = places - low
    matrix = torch.zeros(len(places), size)
    rows = torch.arange(len(places))
    matrix[rows, low] += 1 - share
    matrix[rows, (low + 1).clamp(max=size - 1)] += share
    return matrix


def _interpolate(x: Tensor, axes: list[int], matrices: list[Tensor]) -> Tensor:
    for axis, matrix in zip(axes, matrices, strict=True):
        x = torch.matmul(x.movedim(axis, -1), matrix.mT).movedim(-1, axis)
    return x
