"""The graph of operators that a network executes, in functional form and with every shape known."""

from __future__ import annotations

import logging
import operator
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from robcert.errors import EvaluationError
from robcert.network.fold import copy_module
from robcert.network.functional import make_functional, merge_repeated, mutates
from robcert.network.program import without_deprecations

BATCH = 2
"""The number of images that the graph is written for; one would hide a ``squeeze``, or a mean over images."""

_AGREE = 1e-4
"""Relative to the largest |logit|: two float32 executions agree far better, two different networks do not."""


@dataclass(frozen=True)
class Graph:
    """A network as nodes of ATen operators without side effects.

    Attributes:
        nodes: in the order of execution; placeholders for weights, then one for the images.
        weights: name of a placeholder -> the weight, buffer or constant, as the network executes it.
        images: the name of the placeholder of the images.
        logits: the node whose value is returned.
        paths: name of a placeholder -> the path of the weight in the network ("layer1.0.conv1.weight").
    """

    nodes: tuple[fx.Node, ...]
    weights: dict[str, Tensor]
    images: str
    logits: fx.Node
    paths: dict[str, str]


def read_graph(module: nn.Module, input_shape: tuple[int, ...], name: str, *, decompose: bool = False) -> Graph:
    """The graph of a network, exported for `BATCH` images and compared with the network.

    In-place operators are made functional, everything that depends on sizes alone is a number. The network
    itself is not touched.

    Args:
        module: in eval mode.
        input_shape: the shape of one image.
        name: how messages call the network.
        decompose: write rare operators in terms of common ones, as torch knows them.

    Raises:
        EvaluationError: the network cannot be exported; its answer to one image depends on the other images;
            the graph answers differently from the network.
    """
    generator = torch.Generator().manual_seed(7)
    x = torch.rand(BATCH, *input_shape, generator=generator)
    with without_deprecations(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        copied = copy_module(module).cpu().eval()
        _check_batch(copied, x, name)
        script = any(isinstance(layer, torch.jit.ScriptModule) for layer in copied.modules())
        exported = _export_script(copied, x, name) if script else _export(copied, x, name)
        if decompose or not make_functional(exported.graph):
            exported = exported.run_decompositions({})
        merge_repeated(exported.graph)
        graph = _graph(exported, name)
        _check_same(graph, copied, x, name)
    return graph


@contextmanager
def _quiet() -> Generator[None]:
    """What torch logs while it exports: the error that follows says it to the user."""
    loggers = [logging.getLogger(name) for name in ("torch._export", "torch.export", "torch.fx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _export(module: nn.Module, x: Tensor, name: str) -> ExportedProgram:
    try:
        with _quiet():
            return torch.export.export(module, (x,), strict=False)
    except Exception as error:  # whatever a forward may raise under tracing
        raise EvaluationError(
            f"torch cannot export {name}, and without its graph there is no bound: {_first(error)}",
            "Its forward must not branch on the values of a tensor. Empirical attacks work without a graph.",
        ) from error


def _export_script(module: nn.Module, x: Tensor, name: str) -> ExportedProgram:
    """TorchScript through torch's own converter; the answers are compared afterwards, as for every graph."""
    from torch._export.converter import TS2EPConverter

    try:
        with _quiet():
            converted = TS2EPConverter(torch.jit.trace(module, (x,)), (x,)).convert()  # pyright: ignore
            return torch.export.export(converted.module(check_guards=False), (x,), strict=False)
    except Exception as error:
        raise EvaluationError(
            f"the graph of {name} cannot be read from its TorchScript archive: {_first(error)}",
            "Write the network with torch.export.save (a .pt2 file), or save its weights and name the "
            "architecture with --arch.",
        ) from error


def _graph(exported: ExportedProgram, name: str) -> Graph:
    signature = exported.graph_signature
    inputs = list(signature.user_inputs)
    outputs = [spec.arg.name for spec in signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    if len(inputs) != 1 or len(outputs) != 1:
        raise EvaluationError(f"{name} does not map one batch of images to one batch of logits")
    nodes = tuple(n for n in exported.graph.nodes if not str(n.target).startswith("aten._assert"))
    paths = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    held = {**exported.constants, **exported.state_dict}
    weights: dict[str, Tensor] = {}
    for node in nodes:
        if node.op == "placeholder" and node.name in paths:
            value: Any = held[paths[node.name]]
            if not isinstance(value, Tensor):
                raise EvaluationError(f"{name} holds {paths[node.name]}, which is no tensor")
            weights[node.name] = value.detach()
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise EvaluationError(
                    f"{paths[node.name]} of {name} holds NaN or inf", "No bound can be computed from it."
                )
        if node.op not in ("placeholder", "call_function", "output"):
            raise EvaluationError(
                f"{name} decides by the values of a tensor which way to go ({node.name})",
                "There is no bound for such a graph. Empirical attacks work without one.",
            )
        if node.op == "call_function" and mutates(node):
            raise EvaluationError(f"{name} changes a tensor in place ({node.name}), and torch cannot undo it")
    logits = next(node for node in nodes if node.name == outputs[0])
    return Graph(nodes, weights, str(inputs[0]), logits, paths)


def _check_batch(module: nn.Module, x: Tensor, name: str) -> None:
    """Whether the answer to the first image stays when the second one changes."""
    try:
        one, other = module(x.clone()), module(torch.cat([x[:1], 1 - x[1:]]))
    except Exception as error:
        raise EvaluationError(
            f"{name} cannot take {BATCH} images of shape {tuple(x.shape[1:])}: {_first(error)}",
            "Check the input shape.",
        ) from error
    if not isinstance(one, Tensor) or one.dim() != 2:
        raise EvaluationError(f"{name} does not answer with logits (n, classes)")
    if not _close(one[:1], other[:1]):
        raise EvaluationError(
            f"the answer of {name} to an image depends on the other images of the batch, or is random",
            "A bound per image does not exist. Does a BatchNorm lack running statistics?",
        )


def _check_same(graph: Graph, module: nn.Module, x: Tensor, name: str) -> None:
    if not _close(_execute(graph, x.clone()), module(x.clone())):
        raise EvaluationError(
            f"the exported graph of {name} answers differently from the network",
            "A random network has no bound; for any other, please report this as a bug.",
        )


def _execute(graph: Graph, x: Tensor) -> Tensor:
    """The logits, node by node."""
    found: dict[str, Any] = {**graph.weights, graph.images: x}
    for node in graph.nodes:
        if node.op == "call_function":
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: found[n.name])  # pyright: ignore
            found[node.name] = cast("Any", node.target)(*args, **kwargs)
    return found[graph.logits.name]


def _close(found: Tensor, expected: Tensor) -> bool:
    scale = float(expected.double().abs().amax()) if expected.numel() else 0.0
    return bool(((found.double() - expected.double()).abs() <= _AGREE * scale).all())


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def layer_path(node: fx.Node, graph: Graph) -> str:
    """The path of the layer that a node belongs to, or the node's name where the graph does not say it.

    From the stack of modules that torch.export kept, else from the path of a weight that the node reads.
    """
    stack = cast("dict[str, tuple[str, Any]]", node.meta.get("nn_module_stack") or {})
    path = list(stack.values())[-1][0] if stack else ""
    if path in ("", "network"):
        read = [graph.paths[n.name] for n in node.all_input_nodes if n.name in graph.paths]
        path = read[0].rpartition(".")[0] if read else ""
    path = path.removeprefix("program.").removeprefix("network.")
    return path or node.name


def node_label(node: fx.Node) -> str:
    """What a node calls: "conv2d", "getitem"."""
    if node.target is operator.getitem:
        return "getitem"
    packet = getattr(node.target, "overloadpacket", node.target)
    return getattr(packet, "__name__", str(packet))
