"""A check that torch, as it is set up now, runs a network in the arithmetic of `robcert.bounds.rounding.logits`.

The bound speaks of sums of float32 products in any order, with or without fused multiply-add. TF32, bfloat16
products, Winograd and FFT convolutions are something else.
"""

from __future__ import annotations

import os
import platform

import torch

from robcert.errors import EvaluationError
from robcert.types import LoadedModel

_STRICT = ("", "STRICT")
_NAMED = "The claim for the network in real arithmetic does not need this."


def check_kernels(device: torch.device, *, convolutions: bool, name: str) -> None:
    """Refuse settings under which the rounding bound would not hold.

    Args:
        device: where the network runs.
        convolutions: whether it has any.
        name: how messages call it.

    Raises:
        EvaluationError: says what is set, and how to set it otherwise.
    """
    found = _found(device, convolutions)
    if found is not None:
        raise EvaluationError(f"no rounding bound holds for {name} as it would be executed: {found[0]}", found[1])


def device_of(model: LoadedModel) -> torch.device:
    """Return the device on which a network runs."""
    state = [*model.module.parameters(), *model.module.buffers()]
    return state[0].device if state else torch.device("cpu")


def _found(device: torch.device, convolutions: bool) -> tuple[str, str] | None:
    precision = torch.get_float32_matmul_precision()
    if precision != "highest":
        return (
            f"torch.get_float32_matmul_precision() is {precision!r}",
            'Call torch.set_float32_matmul_precision("highest"). ' + _NAMED,
        )
    if torch.is_autocast_enabled(device.type):
        return "autocast is on", "Leave the autocast context. " + _NAMED
    if device.type == "cuda":
        if torch.backends.cuda.matmul.allow_tf32:
            return "TF32 is on for matrix products", "Set torch.backends.cuda.matmul.allow_tf32 = False. " + _NAMED
        if convolutions and torch.backends.cudnn.enabled:
            return (
                "cuDNN may choose TF32, Winograd or FFT convolutions",
                "Set torch.backends.cudnn.enabled = False, or use --device cpu. " + _NAMED,
            )
        return None
    if device.type != "cpu":
        return f"nothing is known about the kernels of {device.type}", "Use --device cpu. " + _NAMED
    for variable in ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"):
        if os.environ.get(variable, "").upper() not in _STRICT:
            return f"{variable} is {os.environ[variable]}", f"Unset {variable}. " + _NAMED
    modes = [getattr(torch.backends, "fp32_precision", "none")]
    for part in ("matmul", "conv"):
        modes.append(getattr(getattr(torch.backends.mkldnn, part, None), "fp32_precision", "none"))
    if any(mode not in ("none", "ieee") for mode in modes):
        return (
            f"torch.backends lets float32 be computed as {', '.join(m for m in modes if m not in ('none', 'ieee'))}",
            'Set torch.backends.mkldnn.matmul.fp32_precision = "ieee", and the same for conv. ' + _NAMED,
        )
    if convolutions and platform.machine().lower() not in ("x86_64", "amd64"):
        return (
            f"on {platform.machine()} torch may run convolutions by Winograd's method",
            "Run this certificate on x86-64. " + _NAMED,
        )
    if convolutions and not torch.backends.mkldnn.enabled and _nnpack():
        return (
            "oneDNN is off, and NNPACK computes convolutions by Winograd's method or FFT",
            "Set torch.backends.mkldnn.enabled = True, or torch.backends.nnpack.set_flags(False). " + _NAMED,
        )
    return None


def _nnpack() -> bool:
    """Return whether NNPACK may be used: its switch can only be read by setting it."""
    before = torch.backends.nnpack.set_flags(False)[0]
    torch.backends.nnpack.set_flags(before)
    return bool(before)
