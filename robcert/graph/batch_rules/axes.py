"""Along some axes: sums, orders, slices, other orders of axes."""

from __future__ import annotations

from typing import cast

from robcert.graph.batch import BatchCall, batch_rule, broadcast
from robcert.graph.placement import BatchAxis, Placed


@batch_rule(
    *("amax", "amin", "argmax", "argmin", "linalg_vector_norm", "logsumexp", "mean", "median", "norm", "prod", "std"),
    *("sum", "var", "kthvalue"),
)
def over(call: BatchCall) -> BatchAxis | list[BatchAxis | None] | None:
    """Over some axes, all of them where none is named."""
    x = call.first
    call.along(x, call.axes("dim", x.rank) if "dim" in call.given else list(range(x.rank)), "it reduces their axis")
    return [call.kept(x, k) for k in range(len(call.results))]


@batch_rule(
    *("softmax", "_softmax", "log_softmax", "_log_softmax", "sort", "argsort", "topk", "glu", "unfold", "index_select"),
    *("narrow", "split", "split_with_sizes", "chunk", "unbind", "tensor_split"),
)
def along(call: BatchCall) -> list[BatchAxis | None]:
    """Along one axis."""
    x = call.first
    name = "dimension" if "dimension" in call.given else "dim"
    call.along(x, call.axes(name, x.rank), "it works along their axis")
    return [call.kept(x, k) for k in range(len(call.results))]


@batch_rule("gather")
def gathered(call: BatchCall) -> BatchAxis | None:
    """Entries along one axis at places that may be others for every image."""
    tensors = [cast("Placed", call.given[name]) for name in ("self", "index")]
    for tensor in tensors:
        call.along(tensor, call.axes("dim", tensor.rank), "it picks images")
    return broadcast(call, tensors, len(call.results[0].shape))


@batch_rule("msort")
def along_first(call: BatchCall) -> BatchAxis | None:
    """Along the first axis."""
    call.along(call.first, [0], "it sorts along their axis")
    return call.kept(call.first)


@batch_rule("slice", "slice_copy", "select")
def cut(call: BatchCall) -> BatchAxis | None:
    """Some entries along an axis; along that of the images it must leave all of them."""
    x = call.first
    axis = call.axes("dim", x.rank)
    if x.at is None or x.at.axis not in axis:
        return call.kept(x)
    start, end, step = (call[name] if name in call.given else 0 for name in ("start", "end", "step"))
    extent = x.spec.shape[x.at.axis]
    whole = end is None or end == extent or (isinstance(end, int) and end >= 2**62)
    if call.op == "select" or start not in (0, None) or step != 1 or not whole:
        call.mixes("it takes some of the images only")
    return call.kept(x)


@batch_rule("rot90")
def quarter_turns(call: BatchCall) -> BatchAxis | None:
    """Once: the second axis turned round, then both exchanged; twice: both turned round; thrice: the first one."""
    x = call.first
    first, second = call.axes("dims", x.rank)
    reversed_axes = ([], [second], [first, second], [first])[int(call["k"]) % 4]
    call.along(x, reversed_axes, "it moves them along their axis")
    return call.kept(x)


@batch_rule("roll", "flip")
def turned(call: BatchCall) -> BatchAxis | None:
    """Entries in another order along some axes."""
    x = call.first
    call.along(x, call.axes("dims", x.rank), "it moves them along their axis")
    return call.kept(x)


@batch_rule("permute", "transpose", "t", "numpy_T", "mT", "mH", "adjoint", "movedim", "moveaxis", "swapaxes",
            "swapdims")  # fmt: skip
def axes_moved(call: BatchCall) -> BatchAxis | None:
    """Axes in another order."""
    return call.kept(call.first)


@batch_rule("diagonal", "tril", "triu")
def diagonal(call: BatchCall) -> BatchAxis | None:
    """Of a matrix in two axes, the last two where none are named."""
    x = call.first
    axes = [x.rank - 2, x.rank - 1]
    if call.op == "diagonal":
        axes = [*call.axes("dim1", x.rank), *call.axes("dim2", x.rank)]
    call.along(x, axes, "it works along their axis")
    return call.kept(x)


@batch_rule("index")
def index(call: BatchCall) -> BatchAxis | None:
    """Entries at constant places along some axes."""
    x = call.first
    places = cast("list[Placed | None]", call["indices"])
    axis = 0
    for place in places:
        if place is None:
            axis += 1
            continue
        taken = place.rank if str(place.spec.dtype) == "torch.bool" else 1
        call.along(x, list(range(axis, axis + taken)), "it picks images")
        axis += taken
    return call.kept(x)
