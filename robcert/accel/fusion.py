"""One step of an attack as one graph of operators, which a compiler makes fewer and larger kernels of.

Around the network a step has about a hundred operators on a few numbers an image, each a kernel that takes a GPU a
microsecond or two to begin. Written out as a graph, without Python and with nothing written in place, they can be
fused with each other and with the layers of the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from robcert.attacks.protocol import Attack

if TYPE_CHECKING:
    from robcert.accel.stepper import SteppedOracle

Kernels = Callable[..., Sequence[Tensor]]
"""A function of tensors that writes none of them."""

_APART = 0.5
"""How far a compiled step may be from the step, relative to what it gives: rounding turns the signs of small entries of
a gradient, in bfloat16 of one in a hundred, and a wrong kernel turns half of them."""
_OTHERS = 0.1
"""In how many of its yes and no it may be another."""


class Unfused(Exception):
    """The reason that a step cannot be fused."""


class Compiler(Protocol):
    """Compiles a graph of operators for the tensors that it is given."""

    def __call__(self, graph: GraphModule, given: list[Tensor]) -> Kernels: ...


def inductor(graph: GraphModule, given: list[Tensor]) -> Kernels:
    """Compile with TorchInductor, as ``torch.compile`` does: pointwise operators and sums become Triton kernels.

    Raises:
        Exception: of any kind, where there is no compiler or it fails.
    """
    from torch import _inductor  # late: it brings in sympy and much else

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends TF32
        # A network has its numbers in the order that was found to be faster, or that it came with.
        return _inductor.compile(graph, [*given], {"layout_optimization": False})  # pyright: ignore[reportReturnType]


def compiler_for(device: torch.device) -> Compiler | None:
    """Return the compiler of steps for this device; None on a CPU, where layers take the time."""
    return inductor if device.type == "cuda" else None


@dataclass(frozen=True)
class Fused:
    """A compiled step.

    Attributes:
        kernels: take the tensors of ``given`` and return the new ones of ``changed``.
        given, changed: names as of `robcert.accel.stepper.SteppedOracle.rows`.
        forwards, backwards: what a step costs in calls of the model.
    """

    kernels: Kernels
    given: tuple[str, ...]
    changed: tuple[str, ...]
    forwards: int
    backwards: int

    @torch.no_grad()
    def __call__(self, oracle: SteppedOracle, state: Any, steps: int) -> None:
        """Take so many steps and write what they lead to into the oracle, its problem and the state."""
        buffers = oracle.rows(state)
        now = dict(buffers)
        for _ in range(steps):
            now.update(zip(self.changed, self.kernels(*(now[name] for name in self.given)), strict=True))
        for name in self.changed:
            buffers[name].copy_(now[name])
        oracle.forwards += steps * self.forwards
        oracle.backwards += steps * self.backwards
        if oracle.forward.deferred:
            oracle.confirm()


def fuse(attack: Attack, oracle: SteppedOracle, state: Any, compiler: Compiler) -> Fused:
    """Compile the step that ``attack`` takes with this oracle and as many slots.

    What is compiled takes one step beside the step itself, from the state that is given, before it is returned.
    Nothing of what is given changes.

    Raises:
        Unfused: the network draws random numbers, which a compiler draws differently, or the two steps differ.
        Exception: of any kind, where a network cannot be traced or the compiler fails.
    """
    rows = oracle.rows(state)
    changed: list[str] = []
    cost = [0, 0]

    def step(*given: Tensor) -> list[Tensor]:
        own = {name: tensor.clone() for name, tensor in zip(rows, given, strict=True)}
        traced, begin = oracle.over(own, state)
        after = traced.rows(attack.step(traced, traced.problem, begin))
        cost[:] = traced.forwards, traced.backwards
        changed[:] = [name for name in rows if after[name] is not own[name] or after[name]._version > 0]
        return [after[name] for name in changed]

    graph = make_fx(step)(*rows.values())
    for node in graph.graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise Unfused(f"the network draws random numbers ({node.target})")
    given = list(rows.values())
    with torch.no_grad():
        kernels = compiler(graph, given)
        apart = [name for name, *pair in zip(changed, graph(*given), kernels(*given), strict=True) if _apart(*pair)]
    if apart:
        raise Unfused(f"the compiled step gives another {apart[0]}")
    return Fused(kernels, tuple(rows), tuple(changed), *cost)


def _apart(exact: Tensor, other: Tensor) -> bool:
    if exact.shape != other.shape or exact.dtype != other.dtype:
        return True
    if not exact.is_floating_point():
        return float((exact != other).float().mean()) > _OTHERS
    both = exact.isfinite() & other.isfinite()
    if float((exact.isfinite() != other.isfinite()).float().mean()) > _OTHERS:
        return True
    a, b = exact.double()[both], other.double()[both]
    return bool((a - b).norm() > _APART * a.norm() + 1e-6)
