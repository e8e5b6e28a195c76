"""A network as torch exports it: for any number of images.

The number of images is a symbol of the graph. A forward that branches on it, or does something else for one image than
for several, has no such graph; torch says so, and the network is refused. That nothing else depends on the number, or
on the other images, is looked up in the graph (`robcert.graph.batch`).
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from robcert.network.export_errors import OneImage, export_error, quiet

IMAGES = 2
"""The number of images in the example that torch traces with; the graph holds for any number."""


def export(module: nn.Module, input_shape: tuple[int, ...], name: str) -> ExportedProgram:
    """Return the network as a program for any number of images; the network itself is not touched.

    Args:
        module: in eval mode, on the CPU. A part of it may be TorchScript.
        input_shape: the shape of one image.
        name: how messages call the network.

    Raises:
        EvaluationError: torch cannot export it, or can do so for some numbers of images only.
    """
    x = torch.rand(IMAGES, *input_shape, generator=torch.Generator().manual_seed(7))
    script = any(isinstance(layer, torch.jit.ScriptModule) for layer in module.modules())
    with quiet(), torch.no_grad():
        try:
            return _scripted(module, x) if script else _traced(module, x)
        except Exception as error:  # whatever a forward may raise under tracing
            raise export_error(error, name, module, x) from error


def _traced(module: nn.Module, x: Tensor) -> ExportedProgram:
    """The program for any number of images, which for one image must be what torch exports for one.

    torch has no guard against a forward that asks whether there is one image: it takes the number for at least 2. Any
    other question about the number ends its export.
    """
    program = torch.export.export(module, (x,), dynamic_shapes=({0: Dim("n", min=1)},), strict=False)
    one = torch.export.export(module, (x[:1],), strict=False)
    for several, single in zip_longest(_operators(program), _operators(one), fillvalue=""):
        if several != single:
            raise OneImage((several or single).partition(" ")[0])
    return program


_SAME = ("aten.alias.default", "aten.contiguous.default", "aten.detach.default")
"""Operators that torch writes, or not, where they change nothing."""


def _operators(program: ExportedProgram) -> list[str]:
    """The operators of a program with their arguments for one image, in order, without those that change nothing."""
    found: list[str] = []
    number: dict[fx.Node, str] = {}

    def said(node: fx.Node) -> Any:
        value: Any = node.meta.get("val")
        if isinstance(value, torch.SymInt):
            return int(value.node.expr.subs(dict.fromkeys(value.node.expr.free_symbols, 1)))
        return number.get(node, node.name)

    for node in program.graph.nodes:
        if node.op != "call_function" or isinstance(node.meta.get("val"), torch.SymInt):
            continue
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), said)  # pyright: ignore
        whole = node.target is torch.ops.aten.slice.Tensor and list(args[2:]) in ([0, 2**63 - 1], [])
        if whole or str(node.target) in _SAME:
            number[node] = said(node.all_input_nodes[0])
            continue
        number[node] = f"%{len(found)}"
        found.append(f"{node.target} {args} {kwargs}")
    return found


def _scripted(module: nn.Module, x: Tensor) -> ExportedProgram:
    """TorchScript through torch's own converter, traced anew for any number of images."""
    from torch._export.converter import TS2EPConverter

    class Converter(TS2EPConverter):
        def retrace_as_exported_program(self, gm: nn.Module, name_to_constant: dict[str, Any]) -> ExportedProgram:
            return _traced(gm, x)

    return Converter(torch.jit.trace(module, (x,)), (x,)).convert()  # pyright: ignore
