"""The graph of operators that a network executes, in functional form, for any number of images."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from robcert.errors import EvaluationError, first_line
from robcert.graph.batch import place
from robcert.graph.call import Size, by_name, concrete, size, specs
from robcert.graph.export import IMAGES, export, quiet
from robcert.graph.functional import copied, drop_unused, is_random, make_functional, merge_repeated, mutates
from robcert.graph.placement import Placement, Unknown, layer_path, node_label
from robcert.network.fold import copy_module

_AGREE = 1e-5
"""Relative to the largest |logit|: the operators of the graph in another order than a fused layer of torch has them."""


_ALONE = "A bound for an image exists only where the answer depends on that image alone. Empirical attacks work."

_SHAPE_ONLY = {
    **dict.fromkeys(("expand_as", "view_as", "reshape_as", "type_as", "to"), "other"),
    **dict.fromkeys(("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"), "self"),
}
"""Operators that read of one argument only its shape, or its type."""

_REGIONS = {
    **dict.fromkeys(("cond", "while_loop"), "decides by the values of a tensor which way to go"),
    "wrap_with_autocast": "computes in another type than float32 (autocast)",
}
"""Operators on graphs -> what a network with them does."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as nodes of ATen operators without side effects, for any number of images.

    Attributes:
        name: how messages call the network.
        nodes: in the order of execution; placeholders for weights, then one for the images.
        weights: name of a placeholder -> the weight, buffer or constant, as the network executes it.
        images: the name of the placeholder of the images.
        logits: the node whose value is returned.
        paths: name of a placeholder -> the path of the weight in the network ("layer1.0.conv1.weight").
        program: as torch exported it, before anything was rewritten.
    """

    name: str
    nodes: tuple[fx.Node, ...]
    weights: dict[str, Tensor]
    images: str
    logits: fx.Node
    paths: dict[str, str]
    program: ExportedProgram
    _constants: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @cached_property
    def placements(self) -> Mapping[str, Placement]:
        """Name of a node -> where the images lie in its value, or why an answer is not that of one image alone."""
        return place(self)

    def number(self, node: fx.Node) -> Size | None:
        """Return the value of a node that is a whole number (of images, or a size), or None for any other node.

        Raises:
            EvaluationError: it depends on the number of images in another way than as a multiple.
        """
        value: Any = node.meta.get("val")
        if isinstance(value, (torch.SymInt, int)) and not isinstance(value, bool):
            try:
                return size(value)
            except ValueError as error:
                raise self._refusal(node, f"the number that it gives is not understood: {error}") from None
        if isinstance(value, (torch.SymFloat, torch.SymBool, bool, float)):
            raise self._refusal(node, "its result depends on the number of images")
        return None

    def reads(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes whose entries a node reads; of some it reads only the shape."""
        shape_only = _SHAPE_ONLY.get(node_label(node))
        if shape_only is None:
            return node.all_input_nodes
        given = by_name(node.target, tuple(node.args), dict(node.kwargs))
        return [n for n in node.all_input_nodes if n is not given.get(shape_only)]

    @cached_property
    def dependent(self) -> frozenset[str]:
        """The names of the nodes whose entries depend on the images; a number of images is none of them."""
        found = {self.images}
        for node in self.nodes:
            number = isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool, int, float))
            if node.op == "call_function" and not number and any(n.name in found for n in self.reads(node)):
                found.add(node.name)
        return frozenset(found)

    def constant(self, node: fx.Node) -> Any:
        """Return the value of a node that reads no image, as float32 kernels compute it, for `IMAGES` images.

        Raises:
            EvaluationError: it differs from image to image.
        """
        if node.op == "placeholder":
            return self.weights.get(node.name)
        if node.name not in self._constants:
            self._constants[node.name] = self._computed(node)
        return self._constants[node.name]

    def _computed(self, node: fx.Node) -> Any:
        if (number := self.number(node)) is not None:
            return number
        self._check_placed(node)
        read = self.reads(node)

        def value(n: fx.Node) -> Any:
            spec = specs(n)[0] if n not in read else None
            return concrete(self.constant(n), IMAGES) if spec is None else torch.zeros(spec.sizes(), dtype=spec.dtype)

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), value)  # pyright: ignore
        try:
            with torch.no_grad():
                return cast("Any", node.target)(*args, **kwargs)
        except Exception as error:
            raise self._refusal(
                node, f"its value cannot be computed ({type(error).__name__}: {first_line(error)})"
            ) from error

    def arguments(self, node: fx.Node, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a node by name, as an analysis knows them.

        Raises:
            EvaluationError: an answer would not be that of one image alone.
        """
        self._check_placed(node)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: known[n.name])  # pyright: ignore
        return by_name(node.target, tuple(args), dict(kwargs))

    def _check_placed(self, node: fx.Node) -> None:
        placement = self.placements.get(node.name)
        if isinstance(placement, Unknown):
            raise EvaluationError(placement.reason, _ALONE)

    def _refusal(self, node: fx.Node, found: str) -> EvaluationError:
        return EvaluationError(f"{node_label(node)} in layer {layer_path(node, self.paths)}: {found}", _ALONE)

    def execute(self, x: Tensor, until: fx.Node | None = None) -> dict[str, Any]:
        """Return the value of every node for images x (n, *input_shape), as float32 kernels compute it."""
        found: dict[str, Any] = {**self.weights, self.images: x}
        for node in self.nodes:
            if node.op == "call_function":
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: found[n.name])  # pyright: ignore
                found[node.name] = cast("Any", node.target)(*args, **kwargs)
            if node is until:
                break
        return found


def read_graph(module: nn.Module, input_shape: tuple[int, ...], name: str, *, decompose: bool = False) -> Graph:
    """Return the graph of a network, compared with the network.

    In-place operators are made functional, and what stands twice stands once. The network itself is not touched.

    Args:
        module: in eval mode.
        input_shape: the shape of one image.
        name: how messages call the network.
        decompose: write rare operators in terms of common ones, as torch knows them.

    Raises:
        EvaluationError: the network cannot be exported for any number of images; it is random; the graph answers
            differently from the network.
    """
    with quiet(), torch.no_grad():
        alone = copy_module(module).cpu().eval()
        for count in (IMAGES, 1):
            _answer(alone, _images(count, input_shape), name)
        with contextlib.redirect_stderr(io.StringIO()):  # where torch prints what it had traced before an error
            program = export(alone, input_shape, name)
        graph = rewritten(program, name, decompose=decompose)
        _check_same(graph, alone, input_shape)
    return graph


def rewritten(program: ExportedProgram, name: str, *, decompose: bool = False) -> Graph:
    """Return the graph of an exported program in functional form; the program itself is left as it is."""
    with quiet(), torch.no_grad():
        changed = _decomposed(program, name) if decompose else program
        nodes = copied(changed.graph, changed.graph_module)
        if not make_functional(nodes):
            changed = _decomposed(program, name)
            nodes = copied(changed.graph, changed.graph_module)
        merge_repeated(nodes)
        drop_unused(nodes)
        return _graph(nodes, changed, program, name)


def _decomposed(program: ExportedProgram, name: str) -> ExportedProgram:
    """The program in common operators without side effects, as torch writes it."""
    try:
        return program.run_decompositions({})
    except Exception as error:
        written = ", ".join(sorted({node_label(node) for node in program.graph.nodes if mutates(node)}))
        raise EvaluationError(
            f"torch cannot write the operators of {name} in terms of others without side effects"
            + (f" (in place: {written})" if written else "")
            + f": {type(error).__name__}: {first_line(error)}",
            "Use operators that return a new tensor. Empirical attacks work without a graph.",
        ) from error


def _graph(graph: fx.Graph, changed: ExportedProgram, program: ExportedProgram, name: str) -> Graph:
    signature = changed.graph_signature
    inputs = list(signature.user_inputs)
    outputs = [spec.arg.name for spec in signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    if len(inputs) != 1 or len(outputs) != 1:
        raise EvaluationError(f"{name} does not map one batch of images to one batch of logits")
    nodes = tuple(graph.nodes)
    paths = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    held = {**changed.constants, **changed.state_dict}
    weights: dict[str, Tensor] = {}
    for node in nodes:
        if node.op == "placeholder" and node.name in paths:
            value: Any = held.get(paths[node.name])
            if not isinstance(value, Tensor):
                raise _no_tensor(name, paths[node.name])
            weights[node.name] = value.detach()
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise EvaluationError(
                    f"{paths[node.name]} of {name} holds NaN or inf", "No bound can be computed from it."
                )
        if node.op == "placeholder" and node.name not in paths and node.name != inputs[0]:
            raise _no_tensor(name, node.name)
        if node.op not in ("placeholder", "call_function", "output"):
            user = next(iter(node.users), node)
            what = _REGIONS.get(node_label(user), "calls what is no tensor operator")
            raise EvaluationError(
                f"{name} {what} ({node_label(user)} in layer {layer_path(user, paths)})",
                "There is no bound for such a graph. Empirical attacks work without one.",
            )
        if node.op == "call_function" and mutates(node):
            raise EvaluationError(f"{name} changes a tensor in place ({node.name}), and torch cannot undo it")
    logits = next(node for node in nodes if node.name == outputs[0])
    return Graph(name, nodes, weights, str(inputs[0]), logits, paths, program)


def _no_tensor(name: str, path: str) -> EvaluationError:
    return EvaluationError(
        f"{name} holds {path}, which is no tensor",
        "There is no bound for a network with objects in its graph. Empirical attacks work without a graph.",
    )


def _check_same(graph: Graph, module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Refuse a graph that does not answer as the network does, for one image and for several."""
    for count in (IMAGES, 1, 3):
        x = _images(count, input_shape)
        one = _answer(module, x, graph.name)
        if not torch.equal(one, _answer(module, x, graph.name)):
            raise _random(graph.name)
        try:
            found = graph.execute(x)[graph.logits.name]
        except Exception as error:
            raise EvaluationError(
                f"the graph that torch exports of {graph.name} cannot take {count} image(s): {first_line(error)}",
                _ALONE,
            ) from error
        scale = float(one.double().abs().amax()) if one.numel() else 0.0
        if not bool(((found.double() - one.double()).abs() <= _AGREE * scale).all()):
            if any(is_random(node) for node in graph.nodes):  # two draws may be the same, and the third one not
                raise _random(graph.name)
            raise EvaluationError(
                f"the graph that torch exports of {graph.name} answers differently from the network",
                "Does its forward depend on what is no tensor, or on earlier calls? Such a network has no bound.",
            )


def _random(name: str) -> EvaluationError:
    return EvaluationError(
        f"{name} is random: it answers differently to the same image",
        "A bound of one draw says nothing about the next. Attack it with --eot, or certify it with smoothing.",
    )


def _images(count: int, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(11))


def _answer(module: nn.Module, x: Tensor, name: str) -> Tensor:
    """The logits of a network that takes such images.

    Raises:
        EvaluationError: it does not, or answers with something else.
    """
    try:
        answer: Any = module(x.clone())
    except Exception as error:
        raise EvaluationError(
            f"{name} cannot take {len(x)} image(s) of shape {tuple(x.shape[1:])}: {first_line(error)}",
            "Check the input shape. A network takes any number of images; does it normalise with the statistics of the "
            "other images of the batch?",
        ) from error
    if not isinstance(answer, Tensor) or answer.dim() != 2 or len(answer) != len(x):
        raise EvaluationError(f"{name} does not answer {len(x)} images with logits ({len(x)}, classes)")
    if not bool(torch.isfinite(answer).all()):
        raise EvaluationError(f"{name} answers NaN or inf to random images", "Do its inputs lie in the box?")
    return answer
