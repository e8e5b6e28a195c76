"""Where the images lie: an operator that lets one image see another is found in the graph, whatever the values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from robcert.errors import EvaluationError
from robcert.graph.placement import Unknown
from robcert.graph.read import Graph, read_graph


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def graph_of(function: Callable[[Tensor], Tensor], *shape: int) -> Graph:
    return read_graph(Net(function).eval(), shape, "net")


def separate(graph: Graph) -> bool:
    """Whether the graph says that every answer is that of one image alone."""
    return not isinstance(graph.placements[graph.logits.name], Unknown)


def sees_another(function: Callable[[Tensor], Tensor], *shape: int) -> bool:
    """Whether the answer to an image changes, in any bit, with another image or with their number."""
    generator = torch.Generator().manual_seed(5)
    for n in (1, 2, 3, 5):
        x = torch.randn(n, *shape, generator=generator)
        answers = function(x)
        alone = torch.cat([function(x[k : k + 1]) for k in range(n)])
        if answers.shape != alone.shape or not torch.equal(answers, alone):
            return True
    return False


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "mean of the batch": lambda x: x.flatten(1) - 1e-6 * x.flatten(1).mean(0),
    "a number of the whole batch": lambda x: x.flatten(1) * (1.0 + 0.1 * x.mean().item()),
    "sum of everything": lambda x: x.flatten(1) + x.sum(),
    "largest of everything": lambda x: x.flatten(1) / (1 + x.abs().max()),
    "softmax over the batch": lambda x: x.flatten(1).softmax(0),
    "logsumexp over the batch": lambda x: x.flatten(1) - x.flatten(1).logsumexp(0, keepdim=True),
    "sorted along the batch": lambda x: x.flatten(1).sort(0)[0],
    "flipped along the batch": lambda x: x.flatten(1).flip(0),
    "rolled along the batch": lambda x: x.flatten(1).roll(1, 0),
    "half a turn": lambda x: x.rot90(2, (0, 1)).flatten(1),
    "a quarter turn that reverses them": lambda x: x.rot90(1, (1, 0)).movedim(1, 0).flatten(1),
    "rolled without an axis": lambda x: x.flatten(1).roll(1),
    "the first image for all": lambda x: x.flatten(1)[:1].expand(x.shape[0], -1),
    "every second image, twice": lambda x: torch.cat([x.flatten(1)[1:], x.flatten(1)[:1]]),
    "its place in the batch": lambda x: x.flatten(1) + 1e-9 * torch.arange(x.shape[0])[:, None],
    "the number of images": lambda x: x.flatten(1) * x.shape[0],
    "shifted by the number of images": lambda x: x.flatten(1).roll(x.shape[0], 1),
    "the transposed product": lambda x: x.flatten(1) @ (x.flatten(1).t() @ x.flatten(1)),
    "all pairs of images": lambda x: (x.flatten(1) @ x.flatten(1).t()).sum(1, keepdim=True) + x.flatten(1),
    "counted through": lambda x: x.reshape(-1).reshape(-1, x.shape[0]).t(),
    "statistics of the batch": lambda x: F.batch_norm(x, None, None, training=True).flatten(1),
    "an einsum over the batch": lambda x: torch.einsum("nchw,mchw->nc", x, x),
    "a product along the batch": lambda x: x.flatten(1) * x.flatten(1).prod(0),
    "the norm of the batch": lambda x: x.flatten(1) / x.norm(),
    "top of the batch": lambda x: x.flatten(1) - x.flatten(1).topk(1, 0)[0],
    "windows across images": lambda x: F.avg_pool1d(x.flatten(1).t().unsqueeze(0), 3, 1, 1).squeeze(0).t(),
    "a convolution whose channels are images": lambda x: F.max_pool2d(x.transpose(0, 1), (1, 1)).transpose(0, 1)
    .flatten(1) + x.transpose(0, 2).cummax(1)[0].transpose(0, 2).flatten(1).mean(0),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_is_refused(name: str) -> None:
    function = MIXING[name]
    assert sees_another(function, 2, 3, 4), "else the case tests nothing"
    try:
        graph = graph_of(function, 2, 3, 4)
    except EvaluationError as error:
        reason = error.found
    else:
        assert not separate(graph)
        reason = cast("Unknown", graph.placements[graph.logits.name]).reason
    assert any(word in reason for word in ("number of images", "values of a tensor", " in layer ")), reason


SEPARATE: dict[str, Callable[[Tensor], Tensor]] = {
    "windows of a Swin transformer": lambda x: x.permute(0, 2, 3, 1).reshape(-1, 3, 2, 2, 2).permute(0, 2, 1, 3, 4)
    .reshape(-1, 6, 2).softmax(1).reshape(-1, 2, 3, 2, 2).permute(0, 2, 1, 3, 4).reshape(x.shape[0], -1),
    "heads of an attention": lambda x: F.scaled_dot_product_attention(
        *(x.flatten(2).transpose(1, 2).reshape(-1, 12, 2, 1).transpose(1, 2),) * 3  # pyright: ignore[reportArgumentType]
    ).transpose(1, 2).flatten(1),
    "sequence first": lambda x: (x.flatten(2).permute(2, 0, 1) @ torch.ones(2, 3)).permute(1, 0, 2).flatten(1),
    "sequence and batch in one": lambda x: (x.flatten(2).permute(2, 0, 1).reshape(-1, 2).relu()
        .reshape(12, -1, 2).permute(1, 0, 2).flatten(1)),
    "a class token": lambda x: torch.cat([torch.ones(1, 4).expand(x.shape[0], -1), x.flatten(1)], 1),
    "a state of zeros": lambda x: torch.zeros(x.shape[0], 24) + x.flatten(1),
    "repeated and kept": lambda x: x.flatten(1).repeat(1, 2) + torch.ones(1, 48).repeat(x.shape[0], 1),
    "its own statistics": lambda x: F.instance_norm(x).flatten(1),
    "an einsum of each": lambda x: torch.einsum("nchw,ncvw->nhv", x, x).flatten(1),
    "split and joined": lambda x: torch.cat(list(x.chunk(2, 1))[::-1], 1).flatten(1),
    "a gathered order": lambda x: x.flatten(1).gather(1, torch.arange(24).flip(0).expand(x.shape[0], -1)),
    "a quarter turn of images and rows": lambda x: x.rot90(1, (0, 3)).movedim(3, 0).flatten(1),
    "three quarter turns": lambda x: x.rot90(3, (1, 0)).movedim(1, 0).flatten(1),
    "nothing beside the images": lambda x: torch.cat([torch.ones(0, 24), x.flatten(1)]),
    "a slice of all": lambda x: x[:, :1][0:].flatten(1),
    "places in the batch that nobody reads": lambda x: [torch.arange(x.shape[0])[:, None], x.flatten(1)][1],
    "an unread sum over the batch": lambda x: [x.sum(0).relu(), x.flatten(1)][1],
    "a bias for each": lambda x: torch.addmm(torch.zeros(x.shape[0], 3), x.flatten(1), torch.ones(24, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", SEPARATE)
def test_what_keeps_images_apart_is_accepted(name: str) -> None:
    function = SEPARATE[name]
    x = torch.randn(3, 2, 3, 4)
    torch.testing.assert_close(function(x)[1:2], function(x[1:2]))
    graph = graph_of(function, 2, 3, 4)
    assert separate(graph), graph.placements[graph.logits.name]


@st.composite
def chains(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Reshapes, orders of axes, cuts and sums, blind to where the images are."""
    chain: list[tuple[str, Any]] = []
    shape: list[Any] = ["n", 2, 2, 3]
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(("permute", "merge", "split", "reduce", "flip", "softmax")))
        axis = draw(st.integers(0, len(shape) - 1))
        if kind == "permute":
            order = draw(st.permutations(range(len(shape))))
            chain.append(("permute", tuple(order)))
            shape = [shape[k] for k in order]
        elif kind == "merge" and axis + 1 < len(shape):
            chain.append(("flatten", (axis, axis + 1)))
            shape[axis : axis + 2] = ["n" if "n" in map(str, shape[axis : axis + 2]) else shape[axis] * shape[axis + 1]]
        elif kind == "split" and isinstance(shape[axis], int) and shape[axis] % 2 == 0:
            chain.append(("unflatten", (axis, (2, -1))))
            shape[axis : axis + 1] = [2, shape[axis] // 2]
        elif kind == "split" and shape[axis] == "n":
            # Only torch knows whether there is a factor to split off; an export that fails is no graph.
            chain.append(("unflatten", (axis, (2, -1) if draw(st.booleans()) else (-1, 2))))
            shape[axis : axis + 1] = ["n", 2]
        elif kind in ("flip", "softmax"):
            chain.append((kind, axis))
        elif kind == "reduce" and len(shape) > 2:
            chain.append(("sum", axis))
            del shape[axis]
    return chain


def apply(chain: list[tuple[str, Any]], x: Tensor) -> Tensor:
    n = x.shape[0]
    for name, what in chain:
        if name == "permute":
            x = x.permute(what)
        elif name in ("flatten", "unflatten"):
            x = getattr(x, name)(*what)
        elif name == "flip":
            x = x.flip(what)
        elif name == "softmax":
            x = x.softmax(what)
        else:
            x = x.sum(what)
    return x.reshape(n, -1)


ACCEPTED = {"yes": 0, "no": 0}


@settings(max_examples=120)
@given(chains())
def test_no_chain_of_reshapes_hides_a_mixture(chain: list[tuple[str, Any]]) -> None:
    def function(x: Tensor) -> Tensor:
        return apply(chain, x)

    try:
        graph = graph_of(function, 2, 2, 3)
    except EvaluationError:
        return
    accepted = separate(graph)
    ACCEPTED["yes" if accepted else "no"] += 1
    if not accepted:
        return
    for n in (2, 3, 4):
        x = torch.randn(n, 2, 2, 3, dtype=torch.float64)
        try:
            answers = function(x)
        except RuntimeError:
            continue  # no such number of images
        for k in range(n):
            other = torch.randn_like(x)
            other[k] = x[k]
            assert torch.allclose(function(other)[k], answers[k], rtol=1e-12, atol=1e-12)


def test_the_chains_were_of_both_kinds() -> None:
    assert min(ACCEPTED.values()) >= 5, ACCEPTED


def test_one_image_is_not_a_case_of_its_own() -> None:
    def twice(x: Tensor) -> Tensor:
        return x * 2 if x.shape[0] == 1 else x

    with pytest.raises(EvaluationError, match="one number of images n than for another"):
        graph_of(twice, 3)


@pytest.mark.parametrize("at", [1, 3, 100, 10**6])
def test_nor_is_any_other_number(at: int) -> None:
    with pytest.raises(EvaluationError, match="one number of images n than for another"):
        graph_of(lambda x: x * 2 if x.shape[0] > at else x, 3)


def test_random_networks_are_refused() -> None:
    with pytest.raises(EvaluationError, match="random"):
        graph_of(lambda x: x + 1e-3 * torch.randn_like(x), 3)


def test_what_is_drawn_and_drowned_is_refused_too() -> None:
    graph = graph_of(lambda x: 1 + x + 1e-30 * torch.rand(3), 3)
    assert not separate(graph), "no two calls differ, and still it is random"
    reason = cast("Unknown", graph.placements[graph.logits.name]).reason
    assert "rand in layer" in reason


def test_images_of_a_reshape() -> None:
    """(n // inner) % images for all factorisations of a small case, against counting."""
    images = 2
    for outer, inner, rest in itertools.product((1, 2), (1, 3), (1, 2)):

        def forward(x: Tensor, outer: int = outer, inner: int = inner, rest: int = rest) -> Tensor:
            y = x.reshape(-1, outer, inner, rest).permute(1, 0, 2, 3).reshape(-1, rest)
            return (y * 1.0).reshape(outer, -1, inner, rest).permute(1, 0, 2, 3).flatten(1)

        graph = graph_of(forward, outer * inner * rest)
        assert separate(graph)
        x = torch.arange(images).repeat_interleave(outer * inner * rest).reshape(images, -1).float()
        values = graph.execute(x)
        checked = 0
        for node in graph.nodes:
            placed = graph.placements.get(node.name)
            if isinstance(placed, Unknown) or placed is None or placed[0].at is None:
                continue
            at = placed[0].at
            value = values[node.name].movedim(at.axis, 0)
            expected = (torch.arange(len(value)) // at.inner) % images
            assert torch.equal(value.reshape(len(value), -1)[:, 0].long(), expected), (node, at)
            assert math.prod(value.shape) == outer * inner * rest * images
            checked += 1
        assert checked >= 4
