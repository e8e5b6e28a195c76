"""Samples for operators that torch's table lacks: those of an operator of the same form, or a few listed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

aten = torch.ops.aten


def _pooled(op: Callable[..., Any]) -> Callable[..., Any]:
    """A pooling by its ATen operator, from the arguments of the functional one."""

    def call(x: Tensor, kernel_size: Any, *, stride: Any = None, padding: Any = 0, dilation: Any = 1,
             ceil_mode: bool = False, return_indices: bool = False) -> Tensor:  # fmt: skip
        def each(value: Any) -> list[int]:
            return [value] if isinstance(value, int) else [] if value is None else list(value)

        del return_indices
        return op(x, each(kernel_size), each(stride), each(padding), each(dilation), ceil_mode)[0]

    return call


def _sizes(given: tuple[Any, ...]) -> list[int]:
    """Sizes as one list or as arguments."""
    return list(given[0]) if isinstance(given[0], list | tuple) else list(given)


def _no_training(x: Tensor, *given: Any, **options: Any) -> Tensor:
    names = ("mean", "var", "weight", "bias", "training", "momentum", "eps")
    taken = {**dict(zip(names, given, strict=False)), **options}
    mean, var, weight, bias = (taken.get(n, taken.get(f"running_{n}")) for n in names[:4])
    if mean is None or mean.numel() != x.shape[1]:  # this operator does not check, and reads what lies behind
        raise ValueError("not one statistic a channel")
    return aten._native_batch_norm_legit_no_training(x, weight, bias, mean, var, 0.1, taken.get("eps", 1e-5))[0]


BORROWED: dict[str, list[tuple[str, str, Callable[..., Any]]]] = {
    "_softmax": [("softmax", "softmax", lambda x, dim: aten._softmax(x, dim, False))],
    "_log_softmax": [("log_softmax", "log_softmax", lambda x, dim: aten._log_softmax(x, dim, False))],
    "_adaptive_avg_pool2d": [
        ("adaptive_avg_pool2d", "nn.functional.adaptive_avg_pool2d", lambda x, size: aten._adaptive_avg_pool2d(
            x, [n or m for n, m in zip([size] * 2 if isinstance(size, int) else size, x.shape[-2:], strict=True)])),
    ],
    "_native_batch_norm_legit_no_training": [("batch_norm", "nn.functional.batch_norm", _no_training)],
    "_unsafe_view": [("view", "view", lambda x, *size: aten._unsafe_view(x, [x.shape[0], *_sizes(size)]))],
    "convolution": [("conv2d", "nn.functional.conv2d", lambda x, weight, bias=None, stride=1, padding=0, dilation=1,
                     groups=1: aten.convolution(x, weight, bias, *(
                         [n, n] if isinstance(n, int) else list(n) for n in (stride, padding, dilation)),
                         False, [0, 0], groups))],
    "feature_dropout": [("dropout", "nn.functional.dropout",
                         lambda x, p=0.5, training=True, inplace=False: aten.feature_dropout(x, p, training))],
    "max_pool1d_with_indices": [("max_pool1d", "nn.functional.max_pool1d", _pooled(aten.max_pool1d_with_indices))],
    "max_pool2d_with_indices": [("max_pool2d", "nn.functional.max_pool2d", _pooled(aten.max_pool2d_with_indices))],
    "max_pool3d_with_indices": [("max_pool3d", "nn.functional.max_pool3d", _pooled(aten.max_pool3d_with_indices))],
    "native_dropout": [("dropout", "nn.functional.dropout",
                        lambda x, p=0.5, training=True, inplace=False: aten.native_dropout(x, p, training)[0])],
    "numpy_T": [("t", "t", lambda x: x.T)],
    "slice_copy": [("slice", "slice", lambda x, *given: aten.slice_copy(x, *given))],
    "alias": [("clone", "clone", lambda x, **options: aten.alias(x) * 2)],
    "detach": [("clone", "clone", lambda x, **options: x.detach() * 2)],
    "lift_fresh_copy": [("clone", "clone", lambda x, **options: aten.lift_fresh_copy(x) * 2)],
    "_to_copy": [("to", "to", lambda x, *given, **options: aten._to_copy(
        x, dtype=next((a for a in given if isinstance(a, torch.dtype)), None)))],
    "view": [("view", "view", lambda x, *size: x.view(x.shape[0], *_sizes(size)))],
    "reshape": [("reshape", "reshape", lambda x, *size: x.reshape(x.shape[0], *_sizes(size)))],
    "expand": [("expand", "expand", lambda x, *size: x.unsqueeze(1).expand(x.shape[0], *_sizes(size)))],
    "type_as": [("add", "add", lambda x, y, **options: x.type_as(y) if isinstance(y, Tensor) else x.clone())],
}  # fmt: skip
"""Name -> (operator, entry of ``op_db``, what is called with its samples)."""


def _images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


_GRID = torch.rand(1, 3, 3, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1

LISTED: dict[str, list[tuple[Any, ...]]] = {
    "index": [
        (lambda x, i: x[i], _images(5, 4), torch.tensor([0, 2, 2])),
        (lambda x, i: x[:, i], _images(5, 4), torch.tensor([3, 0, 3])),
        (lambda x, i, j: x[i, j], _images(5, 4), torch.tensor([0, 1]), torch.tensor([2, 2])),
        (lambda x, i, j: x[:, i, j], _images(3, 5, 4), torch.tensor([[0], [1]]), torch.tensor([2, 3])),
        (lambda x, i, j: x[:, i, :, j], _images(3, 5, 4, 2), torch.tensor([0, 1]), torch.tensor([1, 1])),
        (lambda x, m: x[:, m], _images(3, 4), torch.tensor([True, False, True, True])),
    ],
    "grid_sampler": [
        (lambda x, g, m, p, a: aten.grid_sampler(x, g, m, p, a), _images(1, 2, 4, 4), _GRID, mode, padding, corners)
        for mode in (0, 1) for padding in (0, 1, 2) for corners in (False, True)
    ],
    "upsample_nearest1d": [(lambda x, s: F.interpolate(x, s), _images(2, 3, 4), n) for n in (2, 6, 7)],
    "upsample_nearest2d": [(lambda x, s: F.interpolate(x, s), _images(2, 3, 4, 5), n) for n in ((2, 3), (6, 7))]
    + [(lambda x, s: F.interpolate(x, scale_factor=s), _images(2, 3, 4, 5), s) for s in (0.6, 1.7, 2.0)],
    "upsample_nearest3d": [(lambda x, s: F.interpolate(x, s), _images(2, 1, 3, 2, 3), n)
                           for n in ((2, 3, 2), (4, 4, 4))],
    "upsample_linear1d": [(lambda x, s, c: F.interpolate(x, s, mode="linear", align_corners=c), _images(2, 3, 4), s, c)
                          for s in (3, 7) for c in (False, True)],
    "upsample_bilinear2d": [(lambda x, s, c: F.interpolate(x, s, mode="bilinear", align_corners=c),
                             _images(2, 3, 4, 5), s, c) for s in ((3, 2), (7, 9)) for c in (False, True)]
    + [(lambda x, s: F.interpolate(x, scale_factor=s, mode="bilinear"), _images(2, 3, 4, 5), s) for s in (0.6, 1.7)]
    + [(lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True), _images(2, 3, 4, 5))],
    "upsample_trilinear3d": [(lambda x, s, c: F.interpolate(x, s, mode="trilinear", align_corners=c),
                              _images(2, 1, 3, 2, 3), s, c) for s in ((2, 3, 2), (4, 4, 4)) for c in (False, True)],
    # Torch's samples of these work along the axis of the images, or with constants that a rule refuses.
    "flip": [(lambda x: x.flip(-1), _images(3, 4)), (lambda x: x.flip(1, 2), _images(3, 4))],
    "roll": [(lambda x: x.roll(1, -1), _images(3, 4)), (lambda x: x.roll((1, 2), (1, 2)), _images(3, 4))],
    "diagonal": [(lambda x: x.diagonal(0, -2, -1), _images(3, 4)), (lambda x: x.diagonal(1, 1, 2), _images(3, 4))],
    "argmin": [(lambda x: x.argmin(-1), _images(3, 4))],
    "msort": [(lambda x: x.t().msort().t(), _images(4))],
    "tensor_split": [(lambda x: x.tensor_split(3, -1), _images(3, 4))],
    "addmm": [(lambda x, b, w: torch.addmm(b, x, w), _images(2, 4), torch.tensor([1.0, 2, 3]), _images(4, 3))],
    "clamp": [(lambda x: x.clamp(-0.5, 0.3), _images(3, 4)), (lambda x: x.clamp(max=0.3), _images(3, 4))],
    "clip": [(lambda x: torch.clip(x, -0.5, 0.3), _images(3, 4))],
    "threshold": [(lambda x: F.threshold(x, 0.2, 0.2), _images(3, 4))],
    "expand_as": [(lambda x, y: x.unsqueeze(1).expand_as(y.expand(x.shape[0], 3, 4)), _images(4), _images(1, 3, 4))],
    "flatten": [(lambda x: x.flatten(1), _images(3, 4)), (lambda x: x.flatten(-2), _images(3, 4))],
    "linalg_vector_norm": [(lambda x, p: torch.linalg.vector_norm(x, p, -1, keepdim=True), _images(3, 4), p)
                           for p in (1, 2, torch.inf)],
    "minimum": [(lambda x: torch.minimum(x, x.flip(-1)), _images(3, 4))],
    "min": [(lambda x: x.min(-1, keepdim=True), _images(3, 4))],
    "movedim": [(lambda x: x.movedim(-1, 1), _images(3, 4))],
    "moveaxis": [(lambda x: torch.moveaxis(x, -1, 1), _images(3, 4))],
    "pow": [(lambda x: x.pow(1), _images(3, 4)),
            (lambda x: x.square().sum(-1, keepdim=True).pow(0.5), _images(3, 4))],
    "repeat": [(lambda x: x.repeat(1, 2, 1), _images(3, 4))],
    "unsqueeze": [(lambda x: x.unsqueeze(-1), _images(3, 4)), (lambda x: x.unsqueeze(1), _images(3, 4))],
}  # fmt: skip
"""Name -> calls, each a function and its arguments."""
