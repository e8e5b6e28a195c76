"""Layers of networks: convolution, pooling, normalisation."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from robcert.graph.batch import BatchCall, batch_rule, broadcast
from robcert.graph.call import Extent
from robcert.graph.placement import BatchAxis


@batch_rule(
    *("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices"),
    *("max_pool3d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d"),
    *("adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d", "adaptive_max_pool1d"),
    *("adaptive_max_pool2d", "adaptive_max_pool3d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "im2col", "channel_shuffle"),
)
def pictures(call: BatchCall) -> list[BatchAxis | None]:
    """Layers of pictures: the images lie along the first axis, the channels along the second."""
    return _leading(call)


@batch_rule("group_norm", "instance_norm", "batch_norm", "_native_batch_norm_legit_no_training")
def statistics(call: BatchCall) -> list[BatchAxis | None]:
    """Layers that normalise within an image, or by statistics that are fixed."""
    if call.given.get("training") is True:
        call.mixes("it normalises with the statistics of the batch: is the network in eval mode?")
    return _leading(call)


def _leading(call: BatchCall) -> list[BatchAxis | None]:
    x = call.first
    if x.at is not None and x.at.axis != 0:
        call.mixes("it takes their axis for channels or places")
    if x.at is not None and x.rank < 3 and "norm" not in call.op:
        call.mixes("it takes their axis for channels or places")
    at = x.at
    return [at if spec.shape and isinstance(spec.shape[0], Extent) else None for spec in call.results]


@batch_rule("layer_norm", "native_layer_norm", "rms_norm")
def last_axes(call: BatchCall) -> list[BatchAxis | None]:
    """Layers that normalise over the last axes."""
    x = call.first
    count = len(cast("list[int]", call["normalized_shape"]))
    call.along(x, list(range(x.rank - count, x.rank)), "it normalises over their axis")
    return [call.kept(x, k) for k in range(len(call.results))]


@batch_rule("grid_sampler")
def sampled(call: BatchCall) -> BatchAxis | None:
    """Places of a picture; picture and grid have the images along the first axis."""
    if any(tensor.at is not None and tensor.at.axis != 0 for tensor in call.tensors):
        call.mixes("it takes their axis for channels or places")
    return broadcast(call, [replace(t, spec=call.results[0]) for t in call.tensors], len(call.results[0].shape))
