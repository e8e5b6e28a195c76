"""The input and the output of an ONNX graph: one batch of images, one batch of logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robcert.errors import EvaluationError, UsageError
from robcert.network.onnx_import import limits

_SOFTMAX = ("Softmax", "LogSoftmax")
_NOTHING = ("Identity", "Cast", "Dropout")
STRIPPED = (
    "the model ends in {op}; robcert attacks the logits before it, which have the same answers (a softmax hides the "
    "gradient where the network is sure)."
)


@dataclass(frozen=True)
class Signature:
    """The input and the output of a classifier.

    Attributes:
        name: of the input.
        fixed: the number of images that the graph is written for, or None for any number.
        declared: the shape of one image in the graph.
        input_shape: the same with channels first.
        channels_last: whether the graph takes (n, height, width, channels).
        logits: the name of the tensor of logits.
        output: the name of the output that they lead to.
        head: the operators from the logits to that output, which the logits are without: ("Softmax",); mostly none.
        notices: what the user should know.
    """

    name: str
    fixed: int | None
    declared: tuple[int, ...]
    input_shape: tuple[int, ...]
    channels_last: bool
    logits: str
    output: str
    head: tuple[str, ...]
    notices: tuple[str, ...]


def signature(
    model: Any, path: Path, input_shape: tuple[int, ...] | None, like: tuple[int, ...] | None = None
) -> Signature:
    """Return the signature of a classifier.

    Args:
        model: the ``onnx.ModelProto``.
        path: for messages.
        input_shape: the shape of one image, channels first, where the file leaves sizes open.
        like: the shape of images that gives sizes which nothing else says.

    Raises:
        UsageError: sizes of an image are open, and ``input_shape`` is missing or does not fit.
        EvaluationError: several inputs, no logits, or images beyond the limits.
    """
    graph = model.graph
    held = {tensor.name for tensor in graph.initializer}
    inputs = [given for given in graph.input if given.name not in held]
    if len(inputs) != 1:
        names = ", ".join(given.name for given in inputs[:4]) or "none"
        raise EvaluationError(f"{path} takes {len(inputs)} inputs ({names}), expected one batch of images")
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in (1, 10, 11, 16):
        raise EvaluationError(
            f"{path} takes no floats as images", "robcert perturbs floats: put the conversion to integers aside."
        )
    if not kind.HasField("shape"):
        raise EvaluationError(f"{path} does not say how many axes its images have", "Export it with a shape.")
    sizes = [d.dim_value if d.WhichOneof("value") == "dim_value" and d.dim_value > 0 else None for d in kind.shape.dim]
    if len(sizes) < 2:
        raise EvaluationError(f"{path} takes tensors with {len(sizes)} axes, expected (images, ...)")
    declared, last = _shape(sizes[1:], input_shape, like, path)
    limits.check(limits.entries(declared), limits.MOST_ENTRIES, f"one image of {path}")
    output = _output(graph, path)
    logits, head = _logits(graph, output)
    notices = (STRIPPED.format(op=head[0]),) if head else ()
    if last:
        notices = (*notices, "the model takes images with the channels last; robcert moves them there.")
    shape = (declared[-1], *declared[:-1]) if last else declared
    return Signature(inputs[0].name, sizes[0], declared, shape, last, logits, output, head, notices)


def _shape(
    sizes: list[int | None], given: tuple[int, ...] | None, like: tuple[int, ...] | None, path: Path
) -> tuple[tuple[int, ...], bool]:
    """Return the shape of one image in the file, and whether its channels are last."""
    last = len(sizes) == 3 and sizes[2] in (1, 3, 4) and sizes[0] not in (1, 3, 4)
    if given is None and like is not None and len(like) == len(sizes):
        sizes = [s or g for s, g in zip(sizes, (*like[1:], like[0]) if last else like, strict=True)]
    if given is None:
        if any(size is None for size in sizes):
            said = "x".join("?" if size is None else str(size) for size in sizes)
            raise UsageError(
                f"the shape of an image is not known: {path} says {said}", "Add --input-shape, e.g. 3,224,224"
            )
        return tuple(int(size or 0) for size in sizes), last
    for order, moved in (((*given[1:], given[0]), True), (given, False)):
        fits = len(order) == len(sizes) and all(s in (None, g) for s, g in zip(sizes, order, strict=True))
        if fits and moved == last:
            return order, last
    raise UsageError(
        f"{path} takes images of shape {_text(sizes)}, and the data have {_text(list(given))}",
        "Use data of that shape; --input-shape is channels first.",
    )


def _text(sizes: list[Any]) -> str:
    return "x".join("?" if size is None else str(size) for size in sizes)


def _output(graph: Any, path: Path) -> str:
    """Return the name of the one output that can be logits, or a softmax of them."""
    outputs = [given for given in graph.output if given.type.tensor_type.elem_type in (0, 1, 10, 11, 16)]
    if len(outputs) > 1:
        ranked = [o for o in outputs if len(o.type.tensor_type.shape.dim) == 2]
        outputs = ranked if len(ranked) == 1 else outputs
    if len(outputs) != 1:
        names = ", ".join(given.name for given in graph.output[:4]) or "none"
        raise EvaluationError(f"{path} has {len(outputs)} outputs that could be logits ({names}), expected one")
    return outputs[0].name


def _logits(graph: Any, output: str) -> tuple[str, tuple[str, ...]]:
    """Return the name of the logits, what stands before a last softmax, and the operators from there to the output."""
    makers = {name: node for node in graph.node for name in node.output}
    name, passed = output, list[str]()
    while name in makers and makers[name].op_type in _NOTHING and len(passed) < len(graph.node):
        passed.append(makers[name].op_type)
        name = makers[name].input[0]
    node = makers.get(name)
    if node is None or node.op_type not in _SOFTMAX or node.domain not in ("", "ai.onnx"):
        return output, ()
    axis = next((a.i for a in node.attribute if a.name == "axis"), None)
    if axis not in (None, 1, -1):
        return output, ()
    return node.input[0], (node.op_type, *reversed(passed))
