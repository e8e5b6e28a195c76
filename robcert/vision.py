"""The one place that lets torchvision be imported beside a torch that it was not built for.

A torchvision whose compiled extension does not fit the installed torch fails at import with
``operator torchvision::nms does not exist``, although model definitions and data set readers need none of its
compiled operators. `mend` makes ``import torchvision`` declare the missing operators, whoever asks for it: robcert,
a user's factory, or timm. Calling one of them still fails with torch's own message.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from robcert.errors import EvaluationError, first_line

_ROI = "Tensor {0}, Tensor rois, float spatial_scale, {1} pooled_height, {1} pooled_width"
_BACK = "Tensor grad, Tensor rois{0}, float spatial_scale, {1} pooled_height, {1} pooled_width"
_SIZES = "{0} batch_size, {0} channels, {0} height, {0} width"
_DEFORM = (
    "Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, SymInt stride_w, SymInt pad_h, "
    "SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask"
)
_I = "SymInt"
SCHEMAS: dict[str, str] = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": f"({_ROI.format('input', _I)}, int sampling_ratio, bool aligned) -> Tensor",
    "qroi_align": f"({_ROI.format('input', _I)}, int sampling_ratio, bool aligned) -> Tensor",
    "_roi_align_backward": f"({_BACK.format('', _I)}, {_SIZES.format(_I)}, int sampling_ratio, bool aligned) -> Tensor",
    "ps_roi_align": f"({_ROI.format('input', _I)}, int sampling_ratio) -> (Tensor, Tensor)",
    "_ps_roi_align_backward": f"({_BACK.format(', Tensor channel_mapping', _I)}, int sampling_ratio, "
    f"{_SIZES.format(_I)}) -> Tensor",
    "ps_roi_pool": f"({_ROI.format('input', _I)}) -> (Tensor, Tensor)",
    "_ps_roi_pool_backward": f"({_BACK.format(', Tensor channel_mapping', _I)}, {_SIZES.format(_I)}) -> Tensor",
    "roi_pool": f"({_ROI.format('input', _I)}) -> (Tensor, Tensor)",
    "_roi_pool_backward": f"({_BACK.format(', Tensor argmax', _I)}, {_SIZES.format(_I)}) -> Tensor",
    "deform_conv2d": f"(Tensor input, {_DEFORM}) -> Tensor",
    "_deform_conv2d_backward": f"(Tensor grad, Tensor input, {_DEFORM}) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
}
"""The operators that torchvision expects its compiled extension to have declared."""

_kept: list[Any] = []
"""Declarations live as long as their Library object."""


def torchvision() -> ModuleType:
    """Return the torchvision package.

    Raises:
        EvaluationError: torchvision is missing, or broken in a way that declaring operators does not mend.
    """
    mend()
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name == "torchvision":
            raise EvaluationError("torchvision is not installed", "pip install torchvision") from None
        raise _mismatch(error) from error
    except Exception as error:
        raise _mismatch(error) from error


def mend() -> None:
    """From now on, ``import torchvision`` declares the operators that its compiled extension should have declared.

    Nothing is imported by this, and a torchvision that fits its torch is imported as it is.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds torchvision where Python does, and puts `_Loader` before its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torchvision":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Runs torchvision's ``__init__`` again, with the operators declared, if it failed for want of them."""

    def __init__(self, usual: Loader) -> None:
        self._usual = usual

    def __getattr__(self, name: str) -> Any:
        return getattr(self._usual, name)  # resources, source

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._usual.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self._usual.exec_module(module)
        except Exception as error:
            if re.search(r"operator torchvision::\w+ does not exist", str(error)) is None:
                raise
        else:
            return
        for name in [name for name in sys.modules if name.startswith("torchvision.")]:
            del sys.modules[name]  # half-imported modules would be taken for whole ones
        _declare()
        self._usual.exec_module(module)


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    _kept.append(library)
    for name, schema in SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}{schema}")


def _mismatch(error: BaseException) -> EvaluationError:
    import torch

    return EvaluationError(
        f"torchvision cannot be imported beside torch {torch.__version__}: {first_line(error)}",
        "The two were built for different versions. Install a matching pair, for instance\n"
        "  pip install --upgrade torch torchvision --index-url https://download.pytorch.org/whl/cpu",
    )
