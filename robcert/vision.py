"""The one place where torchvision is imported: late, and with a way round the breakage that is common.

A torchvision whose compiled extension does not fit the installed torch fails at import with
``operator torchvision::nms does not exist``, although robcert needs none of its compiled operators (only
model definitions and data set readers). The missing operators are then declared, so that the import succeeds;
calling one of them still fails with torch's own message.
"""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType
from typing import Any

from robcert.errors import EvaluationError

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
    """The torchvision package.

    Raises:
        EvaluationError: torchvision is missing, or broken in a way that declaring operators does not mend.
    """
    loaded = sys.modules.get("torchvision")
    if loaded is not None and hasattr(loaded, "models"):
        return loaded
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name == "torchvision":
            raise EvaluationError("torchvision is not installed", "pip install torchvision") from None
        raise _mismatch(error) from error
    except Exception as error:
        if re.search(r"operator torchvision::\w+ does not exist", str(error)) is None:
            raise _mismatch(error) from error
    _forget()
    _declare()
    try:
        return importlib.import_module("torchvision")
    except Exception as error:
        _forget()
        raise _mismatch(error) from error


def _forget() -> None:
    """Half-imported modules would otherwise be taken for whole ones."""
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    _kept.append(library)
    for name, schema in SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}{schema}")


def _mismatch(error: BaseException) -> EvaluationError:
    import torch

    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return EvaluationError(
        f"torchvision cannot be imported beside torch {torch.__version__}: {first}",
        "The two were built for different versions. Install a matching pair, for instance\n"
        "  pip install --upgrade torch torchvision --index-url https://download.pytorch.org/whl/cpu",
    )
