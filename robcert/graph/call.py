"""One operator of a graph with all its arguments, and an account of which of them a rule has read.

An argument that no rule has read may change what the operator computes in a way that nobody thought of. So a rule says
what it knows by reading: whatever is left over, and not at its default, is a refusal that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NoReturn, TypeVar, cast

import torch
from torch import Tensor, fx

from robcert.errors import EvaluationError
from robcert.graph.export import IMAGES

E = TypeVar("E")

PLACEMENT = frozenset(("device", "layout", "pin_memory", "memory_format", "non_blocking", "copy", "cudnn_enabled",
                       "cudnn_enable", "implicit", "generator", "sparse_grad"))  # fmt: skip
"""Arguments that say where a result is stored, or which kernel computes it, and never what it is."""

WIDE = (torch.float32, torch.float64)
"""The types in which real arithmetic is what an operator means, up to a rounding that is accounted for."""


@dataclass(frozen=True)
class Extent:
    """A size, or another whole number, that is a multiple of the number of images."""

    times: int

    def of(self, images: int) -> int:
        """The number for so many images."""
        return self.times * images


Size = int | Extent


@dataclass(frozen=True)
class Spec:
    """The shape of a tensor, with the axis of the images as an `Extent`, and its type."""

    shape: tuple[Size, ...]
    dtype: torch.dtype

    def sizes(self, images: int = IMAGES) -> tuple[int, ...]:
        """The shape for so many images."""
        return tuple(concrete(size, images) for size in self.shape)


def concrete(given: Any, images: int) -> Any:
    """Return an argument with every `Extent` in it as the number for so many images."""
    if isinstance(given, Extent):
        return given.of(images)
    if isinstance(given, (list, tuple)):
        return type(given)(concrete(item, images) for item in cast("list[Any]", given))
    return given


def wide(given: Any) -> Any:
    """Return arguments that ask for float32 as ones that ask for float64, for an execution in float64."""
    if isinstance(given, dict):
        return {name: wide(value) for name, value in cast("dict[str, Any]", given).items()}
    if isinstance(given, (list, tuple)):
        return type(given)(wide(value) for value in cast("list[Any]", given))
    return torch.float64 if given is torch.float32 else given


def size(given: Any) -> Size:
    """Return a size of torch, which may be a symbol, as a number or an `Extent`.

    Raises:
        ValueError: it depends on values, or on the number of images in another way than as a multiple.
    """
    if not isinstance(given, torch.SymInt):
        return int(given)
    expression: Any = given.node.expr
    symbols = list(expression.free_symbols)
    if not symbols:
        return int(expression)
    if any(str(symbol).startswith(("u", "z")) for symbol in symbols):  # torch's names for what only values tell
        raise ValueError("it depends on the values of a tensor")
    times = expression.coeff(symbols[0]) if len(symbols) == 1 else None
    if times is None or not times.is_Integer or expression != times * symbols[0] or times < 1:
        raise ValueError(f"it is {expression} for {', '.join(map(str, symbols))} images")
    return Extent(int(times))


def specs(node: fx.Node) -> tuple[Spec, ...]:
    """Return shape and type of the results of a node, one a tensor.

    Raises:
        ValueError: a size depends on the number of images in another way than as a multiple.
    """
    value = node.meta["val"]
    several = cast("list[Any]", value if isinstance(value, (list, tuple)) else [value])
    return tuple(Spec(tuple(size(s) for s in v.shape), v.dtype) for v in several if isinstance(v, Tensor))


def by_name(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of an operator by the names of its schema, defaults filled in."""
    given: dict[str, Any] = {}
    for index, argument in enumerate(target._schema.arguments):
        if index < len(args) and not argument.kwarg_only:
            given[argument.name] = args[index]
        elif argument.name in kwargs:
            given[argument.name] = kwargs[argument.name]
        else:
            given[argument.name] = argument.default_value if argument.has_default_value() else None
    return given


def per_axis(given: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """Return one number an axis, as torch understands a single one, or a list of one."""
    sizes = [given] if isinstance(given, int) else list(given)
    return tuple(int(s) for s in (sizes * axes if len(sizes) == 1 else sizes))


def padding_sides(given: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the padding of a convolution in front of and behind each axis: from numbers, "same" or "valid"."""
    if not isinstance(given, str):
        return tuple((p, p) for p in per_axis(given, len(kernel)))
    total = [0 if given == "valid" else d * (int(k) - 1) for d, k in zip(dilation, kernel, strict=True)]
    return tuple((t // 2, t - t // 2) for t in total)


@dataclass(frozen=True)
class OpCall(Generic[E]):
    """An operator whose operands are known.

    Reading an argument, by ``call[name]`` or one of the methods, says that the rule accounts for it. Numbers of images
    among the arguments are read as those of `IMAGES` images; that an operator uses them only to shape its result is
    looked up before (`robcert.graph.batch`).

    Attributes:
        node: of the graph.
        op: the name of the ATen operator, without its overload.
        layer: the path of the layer in the network.
        given: the arguments by the names of the schema, defaults filled in. What depends on the images is an
            ``element`` (or stands in a list), what does not is a tensor or a Python number.
    """

    element: ClassVar[type]

    node: fx.Node
    op: str
    layer: str
    given: dict[str, Any]
    read: set[str] = field(default_factory=set[str], compare=False, repr=False)

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return concrete(self.given[name], IMAGES)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument that not every overload has."""
        return self[name] if name in self.given else default

    def ignore(self, *names: str) -> None:
        """Account for arguments that change nothing of what the rule claims; the rule says why."""
        self.read.update(names)

    @property
    def operands(self) -> list[E]:
        """All arguments that depend on the images, in order."""
        found: list[E] = []
        for name, value in self.given.items():
            inside = list(self.elements(value))
            if inside:
                self.read.add(name)
                found += inside
        return found

    @property
    def x(self) -> E:
        """The one argument that depends on the images, the operator's first.

        Raises:
            EvaluationError: it is another one, or there are several.
        """
        return self.only()

    @property
    def first(self) -> E:
        """The operator's first argument; others may depend on the images too, where the rule ignores them.

        Raises:
            EvaluationError: it does not depend on the images.
        """
        name = next(iter(self.given))
        found = self[name]
        return found if isinstance(found, self.element) else self.unfit(f"its {name} does not depend on the input")

    def only(self, *names: str) -> E:
        """Return the one argument that depends on the images, which must be one of these (the first, if none is named).

        Raises:
            EvaluationError: another argument depends on the images.
        """
        names = names or (next(iter(self.given)),)
        for name, value in self.given.items():
            if name not in names and any(True for _ in self.elements(value)):
                self.unfit(f"its {name} depends on the input")
        found = [element for name in names for element in self.elements(self.given.get(name))]
        if len(found) != 1:
            self.unfit("it combines two tensors that both depend on the input")
        self.read.update(name for name in names if any(True for _ in self.elements(self.given.get(name))))
        return found[0]

    def constant(self, name: str) -> Any:
        """Return an argument that must not depend on the images.

        Raises:
            EvaluationError: it does.
        """
        if any(True for _ in self.elements(self.given[name])):
            self.unfit(f"its {name} depends on the input")
        return self[name]

    @property
    def results(self) -> tuple[Spec, ...]:
        """Shape and type of every result."""
        return specs(self.node)

    @property
    def several(self) -> bool:
        """True where the operator has several results."""
        return isinstance(self.node.meta["val"], (list, tuple))

    def same_type(self, *names: str) -> None:
        """Account for arguments that choose the type in which an operator computes: float32 or float64, no other.

        Raises:
            EvaluationError: another type is asked for; it is named.
        """
        for name in names:
            asked = self.get(name)
            if asked not in (None, False, *WIDE):
                self.refuse(f"argument {name}={_said(asked)} of {self.op} is not understood: it rounds")

    def run(self, put: Callable[[E], Tensor], images: int = IMAGES, **changes: Any) -> Any:
        """Return what the operator makes of other tensors in place of its operands, in float64.

        That accounts for all arguments, since all of them are passed on.
        """
        self.read.update(self.given)
        given = {name: self._put(changes.get(name, value), put, images) for name, value in self.given.items()}
        target = cast("Any", self.node.target)
        positional = [a.name for a in target._schema.arguments if not a.kwarg_only]
        return target(*(given[n] for n in positional), **{n: v for n, v in given.items() if n not in positional})

    def refuse(self, found: str, do: str = "") -> NoReturn:
        """End the analysis with an error that names the operator and the layer."""
        raise EvaluationError(f"{self.op} in layer {self.layer}: {found}", do)

    def unfit(self, found: str) -> NoReturn:
        """End a rule that expected a constant; an analysis may have a weaker answer than a refusal."""
        self.refuse(found)

    def check_accounted(self) -> None:
        """Refuse the operator if its rule left out an argument that is not at its default.

        Raises:
            EvaluationError: it names the argument and its value.
        """
        for argument in cast("Any", self.node.target)._schema.arguments:
            name = argument.name
            if name in self.read or name in PLACEMENT:
                continue
            value = self.given.get(name)
            default = argument.default_value if argument.has_default_value() else None
            if not _equal(value, default):
                self.refuse(
                    f"argument {name}={_said(value)} of {self.op} is not understood",
                    "No bound is claimed for what no rule has read. Empirical attacks work all the same.",
                )

    @classmethod
    def elements(cls, given: Any) -> Iterator[Any]:
        """Yield what depends on the images in an argument."""
        if isinstance(given, cls.element):
            yield given
        elif isinstance(given, (list, tuple)):
            for item in cast("list[Any]", given):
                yield from cls.elements(item)

    def _put(self, given: Any, put: Callable[[E], Tensor], images: int) -> Any:
        if isinstance(given, self.element):
            return put(cast("E", given))
        if isinstance(given, (list, tuple)):
            return [self._put(item, put, images) for item in cast("list[Any]", given)]
        if given is torch.float32:
            return torch.float64
        if isinstance(given, torch.dtype) and given is not torch.float64:
            self.refuse(f"it computes in {given}")
        return concrete(given, images)


def _equal(value: Any, default: Any) -> bool:
    if isinstance(value, (list, tuple)):
        same_kind = isinstance(default, (list, tuple)) and len(default) == len(cast("list[Any]", value))
        return same_kind and all(map(_equal, cast("list[Any]", value), default))
    if isinstance(value, (bool, int, float, str, type(None), torch.dtype)):
        return type(default) in (bool, int, float, str, type(None), torch.dtype) and value == default
    return False


def _said(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_said, cast('list[Any]', value)))}]"
    if isinstance(value, (bool, int, float, str, type(None), torch.dtype)):
        return repr(value)
    return "what depends on the input" if not isinstance(value, Extent) else "the number of images"
