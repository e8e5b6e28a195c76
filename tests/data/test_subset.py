"""Subsets: stratified, nested, reproducible, and every image keeps its index."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robcert.data import load_dataset, stratified_order, subset
from robcert.errors import UsageError


@settings(max_examples=100, deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=200),
    n=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_beginning_is_stratified(labels: list[int], n: int, seed: int) -> None:
    y = torch.tensor(labels)
    order = stratified_order(y, seed)
    assert sorted(order.tolist()) == list(range(len(y)))
    n = min(n, len(y))
    shares = torch.bincount(y).double() * n / len(y)
    chosen = torch.bincount(y[order[:n]], minlength=len(shares)).double()
    # Six classes, each rounded on its own: never further off than the classes together can push it.
    assert float((chosen - shares).abs().max()) <= 3
    assert torch.equal(order, stratified_order(y, seed))


def test_subsets_are_nested_and_keep_their_index() -> None:
    whole = load_dataset("digits")
    small, large = load_dataset("digits", n=100, seed=3), load_dataset("digits", n=200, seed=3)
    assert torch.equal(small.index, large.index[:100])
    assert torch.equal(small.x, whole.x[small.index])
    assert torch.equal(small.y, whole.y[small.index])
    assert small.seed == 3
    assert len(set(small.index.tolist())) == 100
    assert torch.bincount(small.y).tolist() == [10] * 10
    assert not torch.equal(small.index, load_dataset("digits", n=100, seed=4).index)
    again = subset(large, 50, 0)
    assert torch.equal(again.x, whole.x[again.index]), "a subset of a subset keeps the index of the whole"


def test_more_than_there_are_is_all() -> None:
    data = load_dataset("digits", n=100_000)
    assert len(data) == 500
    assert data.seed is None


@pytest.mark.parametrize("n", [0, -5])
def test_n_is_positive(n: int) -> None:
    with pytest.raises(UsageError, match="at least one"):
        load_dataset("digits", n=n)


def test_the_seed_is_in_range() -> None:
    with pytest.raises(UsageError, match="seed"):
        load_dataset("digits", n=10, seed=-1)


def test_the_drawn_images_do_not_change_between_versions() -> None:
    """The seed is part of published tables: these numbers may never change."""
    assert load_dataset("digits", n=5, seed=0).index.tolist() == [90, 283, 428, 254, 15]
