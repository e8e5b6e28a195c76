"""Softmax, and layers that divide by the spread of the entries of one image."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from robcert.bounds.linear.normalisation import Normalised
from robcert.bounds.linear.rules import LinearCall, relaxation
from robcert.bounds.linear.softmax import Softmax
from robcert.bounds.linear.step import Step


@relaxation("softmax", "_softmax")
def softmax(call: LinearCall) -> Step:
    """Along one axis of the image."""
    call.same_type("dtype")
    if call.get("half_to_float"):
        call.refuse("it changes the type")
    axis = int(call["dim"]) % (len(call.shape) + 1) - 1
    if axis < 0:
        call.refuse("it sums over images")
    return Softmax(*call.head, axis)


@relaxation("layer_norm", "native_layer_norm", "rms_norm")
def layer_norm(call: LinearCall) -> Any:
    """Over the last axes, entries next to one another."""
    shape = tuple(int(size) for size in call["normalized_shape"])
    call.ignore("cudnn_enable")  # how it is executed
    if call["eps"] is None:
        call.refuse("its eps is that of the number format")
    weight, bias = (_entries(call, name, shape) for name in ("weight", "bias"))
    groups = math.prod(call.shape) // math.prod(shape)
    step = _step(call, groups, weight.reshape(1, -1), bias.reshape(1, -1), call.op != "rms_norm")
    return [step, None, None] if call.several else step


@relaxation("group_norm")
def group_norm(call: LinearCall) -> Step:
    """Over the channels of a group and all places."""
    call.ignore("cudnn_enabled")  # how it is executed
    return _by_channel(call, int(call["num_groups"]))


@relaxation("instance_norm")
def instance_norm(call: LinearCall) -> Step:
    """Over all places, each channel on its own."""
    call.ignore("momentum", "cudnn_enabled")  # of an update that eval mode does not make; how it is executed
    if not call["use_input_stats"]:
        call.refuse("it normalises with running statistics")
    call.ignore("running_mean", "running_var")  # not used with those of the image
    return _by_channel(call, call.x.shape[0])


def _by_channel(call: LinearCall, groups: int) -> Step:
    channels, places = call.shape[0], math.prod(call.shape[1:])
    weight, bias = (_entries(call, name, (channels,)) for name in ("weight", "bias"))
    wide = [x.unsqueeze(1).expand(channels, places).reshape(groups, -1) for x in (weight, bias)]
    return _step(call, groups, wide[0], wide[1], centred=True)


def _step(call: LinearCall, groups: int, scale: Tensor, shift: Tensor, centred: bool) -> Step:
    eps = float(call["eps"])
    if eps <= 0:
        call.refuse("its eps is not positive")
    name, layer, sources, shape = call.head
    return Normalised(name, layer, sources[:1], shape, groups, scale, shift, eps, centred)


def _entries(call: LinearCall, name: str, shape: tuple[int, ...]) -> Tensor:
    """Factors or constants of a layer; 1 and 0 where it has none."""
    given = call.constant(name) if name in call.given else None
    if given is None:
        return torch.full(shape, 1.0 if name == "weight" else 0.0, dtype=torch.float64)
    return given.double().reshape(shape)
