"""From the nodes of an ONNX graph to a network of torch: constants are folded, sizes become numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from robcert.errors import EvaluationError
from robcert.network.onnx_import import limits
from robcert.network.onnx_import.decode import attributes, tensor_of
from robcert.network.onnx_import.network import OnnxNetwork, Slot, Step, Weight, parameter
from robcert.network.onnx_import.node import Node
from robcert.network.onnx_import.parts import bound, free_name, label, names_of, with_last_uses
from robcert.network.onnx_import.table import DOMAINS, find
from robcert.network.onnx_import.values import PROBES, Apply, Extent, Origin, Unsupported, Value, flat, known, mapped

Scope = dict[str, Value]


class Builder:
    """Reads nodes in order and keeps what has to be computed.

    Args:
        functions: the functions of the file, by (domain, name).
        input_shape: of one image, as the file declares it.
        fixed: the number of images that the graph was written for, or None.
    """

    def __init__(
        self, functions: Mapping[tuple[str, str], Any], input_shape: tuple[int, ...], fixed: int | None
    ) -> None:
        self.functions = functions
        self.fixed = fixed
        self.layers = nn.Module()
        self.weights = nn.Module()
        self.steps: list[Step] = []
        self.notices: list[str] = []
        self.values: list[Value] = []
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._held: dict[int, tuple[str, Tensor]] = {}
        self._constants = 0
        with self.fake:
            two, three = (torch.empty(n, *input_shape) for n in PROBES)
        self.images = self._value("", (two, three), Origin())

    def nodes(self, nodes: Iterable[Any], scope: Scope, opset: Mapping[str, int], depth: int = 0) -> None:
        """Read nodes; their results are added to ``scope``.

        Raises:
            Unsupported: a node cannot become a layer.
            EvaluationError: the graph asks for more than the limits allow.
        """
        if depth > limits.DEEPEST:
            raise EvaluationError(f"functions and branches are nested more than {limits.DEEPEST} deep")
        for proto in nodes:
            try:
                self._read(proto, scope, opset, depth)
            except Unsupported as error:
                error.node = error.node or f"{label(proto)} ({proto.op_type})"
                raise

    def _read(self, proto: Any, scope: Scope, opset: Mapping[str, int], depth: int) -> None:
        missing = [name for name in proto.input if name and name not in scope]
        if missing:
            raise Unsupported(f"node {label(proto)} reads {missing[0]!r}, which nothing computes")
        function = self.functions.get((proto.domain, proto.op_type))
        if function is not None:
            results = self._function(function, proto, scope, depth)
        elif proto.domain not in DOMAINS:
            raise Unsupported(
                f"node {label(proto)} is of the domain {proto.domain!r}, and only standard ONNX ops are read",
                "Export it again without custom ops.",
            )
        elif proto.op_type == "If":
            results = self._branch(proto, scope, opset, depth)
        else:
            results = self._node(proto, scope, opset)
        for name, value in zip(proto.output, results, strict=False):
            if name:
                scope[name] = value

    def network(self, logits: Value, input_shape: tuple[int, ...], *, channels_last: bool) -> OnnxNetwork:
        """Return the network whose answer is ``logits``; steps that it does not need are left out."""
        assert logits.slot is not None
        needed, kept = {logits.slot}, list[Step]()
        for step in reversed(self.steps):
            if any(r in needed for r in step.results):
                kept.append(step)
                needed |= {arg.index for arg in flat(step.args) if isinstance(arg, Slot)}
        kept = with_last_uses(kept[::-1], logits.slot)
        used = {step.layer for step in kept} | {a.name for s in kept for a in flat(s.args) if isinstance(a, Weight)}
        layers, weights = self.layers.named_children(), self.weights.named_parameters(recurse=False)
        for holder, found in ((self.layers, list(layers)), (self.weights, list(weights))):
            for name, _ in found:
                if name not in used:
                    delattr(holder, name)
        network = OnnxNetwork(
            self.layers, self.weights, tuple(kept), logits.slot, input_shape, channels_last=channels_last
        )
        network.fixed = self.fixed
        network.notices = tuple(dict.fromkeys(self.notices))
        computed = {r for step in kept for r in step.results}
        network.slots = {v.name: v.slot for v in self.values if v.slot in computed}
        return network

    def constant(self, proto: Any) -> Value:
        """Return an initialiser."""
        return known(proto.name, tensor_of(proto))

    def _node(self, proto: Any, scope: Scope, opset: Mapping[str, int]) -> list[Value]:
        convert, version = find(proto.op_type, opset.get("", opset.get("ai.onnx", 0)))
        called = label(proto)
        node = Node(
            proto.op_type,
            version,
            called,
            tuple(scope[name] if name else None for name in proto.input),
            len([name for name in proto.output if name]),
            attributes(proto),
            self.fixed,
            self.notices.append,
        )
        try:
            made: Any = convert(node)
            unread = sorted(set(node.attributes) - node.read)
            if unread:
                node.refuse(f"robcert does not know its attribute {unread[0]!r}")
            origin = Origin(proto.op_type, node.inputs, node.attributes)
            name = proto.output[0] if proto.output else called
            return self._results(made, name, list(proto.output), origin)
        except EvaluationError:
            raise
        except Exception as error:  # whatever torch says about sizes or types that do not fit
            lines = str(error).strip().splitlines()
            why = f"{type(error).__name__}: {lines[-1][:200] if lines else ''}"
            raise Unsupported(f"the ONNX node {called} ({proto.op_type}) cannot be read: {why}") from error

    def _results(self, made: Any, name: str, outputs: list[str], origin: Origin) -> list[Value]:
        """Return what a function of the table made, as one value a result."""
        if isinstance(made, list | tuple):
            names = [*outputs, *[""] * len(made)]
            return [self._results(m, n, [], origin)[0] for m, n in zip(made, names, strict=False)]
        if isinstance(made, Value):
            return [made]
        assert isinstance(made, Apply)
        made = Apply(made.layer, tuple(mapped(lambda arg: self._called(arg, f"{name}:in"), made.args)))
        args = flat(made.args)
        read = [arg for arg in args if isinstance(arg, Value)]
        sized = any(isinstance(arg, Extent) and not arg.constant for arg in args)
        computed = sized or any(v.computed for v in read)
        alike = not computed and all(v.constant for v in read)
        with torch.no_grad():
            probes = [self._probe(made, i, name) for i in range(1 if alike else 2)]
            if not computed:
                probes = [self._fold(made, i) for i in range(len(probes))]
        columns = [_tensors(probe) for probe in probes]
        pairs = list(zip(columns[0], columns[-1], strict=True))
        names = names_of(outputs, name, len(pairs))
        if not computed:
            pairs = [(two, two if torch.equal(two, three) else three) for two, three in pairs]
            return [Value(n, pair, None, origin) for n, pair in zip(names, pairs, strict=True)]
        slots = range(len(self.values), len(self.values) + len(pairs))
        values = [self._value(n, pair, origin) for n, pair in zip(names, pairs, strict=True)]
        layer = self._layer(made.layer, name) if isinstance(made.layer, nn.Module) else made.layer
        arguments, several = tuple(mapped(self._argument, made.args)), isinstance(probes[0], list | tuple)
        self.steps.append(Step(layer, arguments, tuple(slots), several))
        return values

    def _called(self, arg: Any, name: str) -> Any:
        """Return an argument; one that is a call itself, called."""
        return self._results(arg, name, [], Origin())[0] if isinstance(arg, Apply) else arg

    def _value(self, name: str, probes: tuple[Tensor, Tensor], origin: Origin) -> Value:
        value = Value(name, probes, len(self.values), origin)
        self.values.append(value)
        return value

    def _probe(self, made: Apply, index: int, name: str) -> Any:
        """Return the result without its data: shapes and types, at no cost."""

        def stand_in(arg: Any) -> Any:
            constant = isinstance(arg, Value) and not arg.computed
            return self.fake.from_tensor(arg.probes[index]) if constant else _at(arg, index)

        with self.fake:
            found = made.layer(*mapped(stand_in, made.args))
        for tensor in _tensors(found):
            limits.check(limits.entries(tensor.shape), PROBES[index] * limits.MOST_ACTIVATIONS, f"the tensor {name!r}")
        return found

    def _fold(self, made: Apply, index: int) -> Any:
        """Return the result itself, computed from constants."""
        found = made.layer(*mapped(lambda arg: _at(arg, index), made.args))
        self._constants += sum(tensor.numel() for tensor in _tensors(found))
        limits.check(self._constants, limits.MOST_CONSTANTS, "what the graph computes from constants")
        return found

    def _argument(self, arg: Any) -> Any:
        if not isinstance(arg, Value):
            return arg
        if arg.slot is not None:
            return Slot(arg.slot)
        if not arg.constant:
            raise Unsupported(f"{arg.name!r} depends on the number of images, and is used as data")
        return self._weight(arg)

    def _weight(self, value: Value) -> Weight:
        """Return the constant as a parameter; one that is read twice is held once."""
        tensor = value.probes[0]
        if id(tensor) not in self._held:
            name = free_name(self.weights, value.name or "constant")
            self._held[id(tensor)] = name, tensor  # held, so that no other tensor gets its id
            self.weights.register_parameter(name, parameter(tensor))
        return Weight(self._held[id(tensor)][0])

    def _layer(self, layer: nn.Module, name: str) -> str:
        key = free_name(self.layers, name)
        self.layers.add_module(key, layer.eval())
        return key

    def _function(self, function: Any, proto: Any, outer: Scope, depth: int) -> list[Value]:
        """Return the nodes of a function of the file, in a scope of their own."""
        given = [outer[name] if name else None for name in proto.input]
        scope: Scope = {n: v for n, v in zip(function.input, given, strict=False) if v is not None}
        values = {a.name: a for a in function.attribute_proto} | {a.name: a for a in proto.attribute}
        nodes = [bound(node, values) for node in function.node]
        self.nodes(nodes, scope, {o.domain: o.version for o in function.opset_import}, depth + 1)
        return _outputs(function.output, scope)

    def _branch(self, proto: Any, scope: Scope, opset: Mapping[str, int], depth: int) -> list[Value]:
        """Return the branch of an If whose condition is known."""
        condition = scope[proto.input[0]]
        if condition.computed:
            raise Unsupported(f"node {label(proto)} chooses by the values of the images which way to go")
        one, other = (bool(p.reshape(-1)[0]) if p.numel() else False for p in condition.probes)
        if one != other:
            raise Unsupported(f"node {label(proto)} chooses by the number of images which way to go")
        wanted = "then_branch" if one else "else_branch"
        graph = next((a.g for a in proto.attribute if a.name == wanted), None)
        if graph is None:
            raise Unsupported(f"node {label(proto)} has no {wanted}")
        inner = dict(scope)
        for initializer in graph.initializer:
            inner[initializer.name] = self.constant(initializer)
        self.nodes(graph.node, inner, opset, depth + 1)
        return _outputs([o.name for o in graph.output], inner)


def _at(arg: Any, index: int) -> Any:
    """Return an argument of a call for one of the two numbers of images that a graph is read for."""
    if isinstance(arg, Value):
        return arg.probes[index]
    return arg.at(PROBES[index]) if isinstance(arg, Extent) else arg


def _tensors(found: Any) -> list[Tensor]:
    return list(found) if isinstance(found, list | tuple) else [found]


def _outputs(names: Sequence[str], scope: Scope) -> list[Value]:
    for name in names:
        if name not in scope:
            raise Unsupported(f"the output {name!r} is computed by nothing")
    return [scope[name] for name in names]
