"""Networks made of torch's own operator samples, which nobody chose for robcert: one for each sample and each argument.

An operator is one that has a rule in some analysis. Its samples are those of ``op_db``, the table by which torch tests
itself, under the operator's name and its other names; in-place variants, and operators that the table lacks, get a few.
For each float tensor among the arguments there is a network whose image is that argument, all others being constants.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.soundness.listed_samples import BORROWED, LISTED

COUNTS = (1, 2, 3)
"""Numbers of images for which a network must answer."""
IN_PLACE = 3
"""So many samples of an in-place variant: it is the same operator behind another name."""
LARGEST = 1 << 12
"""Entries of an image or of its logits, at most."""
MOST = 60
"""So many samples are borrowed from another operator, at most."""
LAYOUTS = ("front", "first", "front, constants too", "first, constants too")
"""Where the images stand: in front of the argument's axes or along its first one. Where an operator wants the same of
all tensors, its constants have an axis of images too, along which they repeat."""


@dataclass(frozen=True)
class Pair:
    """One sample of one operator, and which of its tensors is the image.

    Attributes:
        operator: the name under which an analysis has a rule.
        form: the entry of ``op_db`` (with its variant) and the name that is called.
        sample: which one, in the order of ``op_db``.
        leaf: which of all arguments, lists and dictionaries flattened.
        call: the function, on all arguments.
        arguments: flattened; ``tree`` puts them together again.
    """

    operator: str
    form: str
    sample: int
    leaf: int
    call: Callable[..., Any] = field(repr=False, compare=False)
    arguments: tuple[Any, ...] = field(repr=False, compare=False)
    tree: Any = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """What names the pair in a record."""
        return f"{self.operator}|{self.form}|{self.sample}|{self.leaf}"

    @property
    def seed(self) -> int:
        """Of all that is random in its network and in the search."""
        return int(self.digest[:8], 16)

    @property
    def digest(self) -> str:
        """By which pairs are drawn."""
        return hashlib.sha256(self.key.encode()).hexdigest()


def operators() -> list[str]:
    """Every operator that some domain knows."""
    from robcert.bounds.operators import operators

    return sorted(operators())


@cache
def _table() -> dict[str, list[tuple[Any, str, Callable[..., Any], Any]]]:
    """Name of an operator -> entries of ``op_db``, each with how it is called."""
    from torch.testing._internal.common_methods_invocations import op_db

    found: dict[str, list[tuple[Any, str, Callable[..., Any], Any]]] = {}
    for entry in op_db:
        form = f"{entry.name}/{entry.variant_test_name}" if entry.variant_test_name else entry.name
        own = {_plain(entry.name), entry.aten_name}
        for name in own:
            found.setdefault(name, []).append((entry, form, entry.op, entry.inplace_variant))
        for alias in entry.aliases:
            name = _plain(alias.name)
            if name not in own and alias.op is not None:
                found.setdefault(name, []).append((entry, f"{form} as {alias.name}", alias.op, alias.inplace_variant))
    return found


def _plain(name: str) -> str:
    return name.removeprefix("nn.functional.").replace(".", "_")


def pairs(operator: str) -> Iterator[Pair]:
    """All pairs of an operator, always the same."""
    for entry, form, call, in_place in _table().get(operator, []):
        for k, sample in enumerate(_samples(entry)):
            yield from _each_tensor(Pair(operator, form, k, 0, call, *_flat(sample)))
        if in_place is not None:
            for k, sample in enumerate(_samples(entry)[:IN_PLACE]):
                first = next(_each_tensor(Pair(operator, f"{form} in place", k, 0, in_place, *_flat(sample))), None)
                if first is not None:
                    yield first
    for k, (name, form, call) in enumerate(BORROWED.get(operator, [])):
        entry = next(e for e, known, *_ in _table()[name] if known == form)
        every = len(_samples(entry)) // MOST + 1
        for j, sample in list(enumerate(_samples(entry)))[::every]:
            yield from _each_tensor(Pair(operator, f"samples of {form}, {k}", j, 0, call, *_flat(sample)))
    torch.manual_seed(0)
    for k, (call, *arguments) in enumerate(LISTED.get(operator, [])):
        leaves, tree = pytree.tree_flatten((tuple(arguments), {}))
        yield from _each_tensor(Pair(operator, "listed", k, 0, call, tuple(leaves), tree))


def drawn(operator: str) -> list[Pair]:
    """A tenth of the pairs of an operator, one at least, the same whatever else there is."""
    found = sorted(pairs(operator), key=lambda pair: pair.digest)
    return found[: -(-len(found) // 10)]


@cache
def _samples_of(index: int) -> list[Any]:
    from torch.testing._internal.common_methods_invocations import op_db

    entry = op_db[index]
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (op_db draws from it)
    return list(entry.sample_inputs("cpu", torch.float32)) if torch.float32 in entry.dtypes else []


def _samples(entry: Any) -> list[Any]:
    from torch.testing._internal.common_methods_invocations import op_db

    return _samples_of(next(k for k, one in enumerate(op_db) if one is entry))


def _flat(sample: Any) -> tuple[tuple[Any, ...], Any]:
    leaves, tree = pytree.tree_flatten(((sample.input, *sample.args), sample.kwargs))
    return tuple(leaves), tree


def _each_tensor(pair: Pair) -> Iterator[Pair]:
    for k, leaf in enumerate(pair.arguments):
        if isinstance(leaf, Tensor) and leaf.dtype is torch.float32 and leaf.layout is torch.strided:
            yield replace(pair, leaf=k)


class SampleNetwork(nn.Module):
    """Images (n, ...) -> one argument of an operator; its results side by side are the logits (n, classes).

    Args:
        pair: which operator, sample and argument.
        layout: one of `LAYOUTS`.
    """

    def __init__(self, pair: Pair, layout: str) -> None:
        super().__init__()
        front, self.expanded = layout.startswith("front"), layout.endswith("too")
        self.call, self.tree, self.at = pair.call, pair.tree, pair.leaf
        self.settings: list[Any] = []
        for k, leaf in enumerate(pair.arguments):
            tensor = isinstance(leaf, Tensor) and k != pair.leaf
            if tensor:
                constant = leaf.detach().clone()
                if self.expanded:
                    constant = constant[None] if front or constant.dim() == 0 else constant[:1]
                self.register_buffer(f"constant{k}", constant)
            self.settings.append(None if tensor or k == pair.leaf else leaf)
        value = pair.arguments[pair.leaf]
        self.shape = tuple(value.shape) if front else tuple(value.shape[1:])
        self.shape = self.shape or (1,)  # an image has an axis
        self.sample = value.detach().clone()
        self.axes: list[int | None] | None = None
        self.single = False

    def results(self, x: Tensor) -> list[Tensor]:
        """What the operator returns: its floating-point tensors, else all of them."""
        arguments: list[Any] = []
        for k, setting in enumerate(self.settings):
            constant = getattr(self, f"constant{k}", None)
            if constant is not None and self.expanded:
                constant = constant.expand(x.shape[0], *constant.shape[1:])
            wide = x.dtype if setting is torch.float32 else setting
            arguments.append(x if k == self.at else wide if constant is None else constant)
        args, kwargs = pytree.tree_unflatten(arguments, self.tree)
        found = [one for one in pytree.tree_leaves(self.call(*args, **kwargs)) if isinstance(one, Tensor)]
        return [one for one in found if one.is_floating_point()] or found

    def place(self, images: Callable[[int], Tensor]) -> None:
        """Find along which axis of every result the images lie: the one whose size is their number."""
        two, three = (self.results(images(n).clone()) for n in (2, 3))
        self.axes = []
        for a, b in zip(two, three, strict=True):
            if a.dim() != b.dim() or a.is_complex():
                raise ValueError("results of another kind for another number of images")
            sizes = zip(a.shape, b.shape, strict=True)
            found = [k for k, (m, n) in enumerate(sizes) if (m, n) == (2, 3)]
            if not found and a.shape != b.shape:
                raise ValueError("no axis of the result is that of the images")
            self.axes.append(found[0] if found else None)
        sizes = [one.numel() for one in (two[0], images(2))]
        if max(sizes) > 2 * LARGEST:
            raise ValueError("too large for a search")
        self.single = self(images(2)).shape[1] == 1

    def forward(self, x: Tensor) -> Tensor:
        rows: list[Tensor] = []
        for result, axis in zip(self.results(x), self.axes or [], strict=True):
            one = result if result.dtype is x.dtype else result.to(x.dtype)
            if axis is None:  # something of all images together
                one = one.reshape(1, -1).expand(x.shape[0], -1)
            elif axis != 0:
                one = one.movedim(axis, 0)
            rows.append(one.unsqueeze(1) if one.dim() == 1 else one.flatten(1) if one.dim() > 2 else one)
        logits = rows[0] if len(rows) == 1 else torch.cat(rows, 1)
        return nn.functional.pad(logits, (0, 1)) if self.single else logits  # a classifier has two classes


@dataclass(frozen=True)
class Sampled:
    """A network of a pair.

    Attributes:
        network: float32.
        exact: the same in float64, with the same constants.
        layout: one of `LAYOUTS`.
        mixes: whether the answer to an image changes with the other ones (or from call to call).
    """

    network: SampleNetwork
    exact: SampleNetwork
    layout: str
    mixes: bool


def sampled(pair: Pair) -> Sampled | None:
    """The network of a pair, in the first layout that works and keeps images apart, else in the first that works.

    None where no layout works.
    """
    found: list[Sampled] = []
    for layout in LAYOUTS:
        if layout.endswith("too") and found:
            break
        if layout.startswith("first") and pair.arguments[pair.leaf].dim() == 0:
            continue
        network = SampleNetwork(pair, layout).eval()
        try:
            network.place(lambda n, of=network: images(of, n, pair.seed).float())
            exact = copy.deepcopy(network).double()
            mixes = _mixes(exact, pair.seed)
            answers = [network(images(network, n, pair.seed).float()) for n in COUNTS]
        except Exception:  # whatever an operator says to a shape that it cannot take
            continue
        if all(one.dim() == 2 and len(one) == n for n, one in zip(COUNTS, answers, strict=True)):
            found.append(Sampled(network, exact, layout, mixes))
            if not mixes:
                break
    return min(found, key=lambda one: one.mixes, default=None)


def images(network: SampleNetwork, n: int, seed: int) -> Tensor:
    """Random images in [0, 1], float64: the first of them are the same for every n."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.rand(network.shape, generator=generator) for _ in range(n)]
    return torch.stack(rows).double() if rows else torch.zeros(0, *network.shape, dtype=torch.float64)


@torch.no_grad()
def _mixes(exact: SampleNetwork, seed: int) -> bool:
    for n in (2, 3):
        x = images(exact, n, seed)
        together, again = exact(x.clone()), exact(x.clone())
        alone = torch.cat([exact(x[k : k + 1].clone()) for k in range(n)])
        other = torch.cat([x[:1], 1 - x[1:]])
        beside = exact(other)[:1]
        for one, two in ((together, again), (together, alone), (together[:1], beside)):
            if one.shape != two.shape or not torch.allclose(one, two, rtol=1e-9, atol=1e-9, equal_nan=True):
                return True
    return False
