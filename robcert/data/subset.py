"""Stratified, nested, reproducible subsets."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from robcert.errors import UsageError
from robcert.types import Dataset


def stratified_order(y: Tensor, seed: int) -> Tensor:
    """An order of all images of which every beginning is stratified.

    Within its class of n_c images, the image that a seeded shuffle puts at place j gets the key (j + 1/2) /
    n_c; the images are sorted by key, equal keys by a seeded shuffle. So among the first n images each
    class has its share n n_c / N, to within one image for its own rounding.

    Args:
        y: (N,) int64 labels.
        seed: chooses the order.

    Returns:
        (N,) int64 positions.
    """
    labels = y.numpy()
    # RandomState, because its streams are frozen for ever (NEP 19); those of default_rng may change.
    rng = np.random.RandomState(seed)
    shuffled = rng.permutation(len(labels))
    key = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        key[members] = (np.arange(len(members)) + 0.5) / len(members)
    return torch.from_numpy(shuffled[np.argsort(key[shuffled], kind="stable")].astype(np.int64))


def chosen(y: Tensor, n: int | None, seed: int = 0) -> Tensor | None:
    """Return the positions of ``n`` images, each class in its proportion; None: all of them, in their own order.

    Subsets of one seed are nested: the first 100 images of a subset of 1,000 are the subset of 100.

    Args:
        y: (N,) int64 labels of the whole set.
        n: how many images; None or more than there are: all of them.
        seed: chooses the images.

    Raises:
        UsageError: ``n`` is smaller than 1, or the seed is not in 0 ... 2^32 - 1.
    """
    if n is None or n >= len(y):
        return None
    if n < 1:
        raise UsageError(f"n is {n}, but at least one image is needed", "Give a positive number, e.g. --n 200")
    if not 0 <= seed < 2**32:
        raise UsageError(f"the seed is {seed}, but 0 to 4294967295 was expected", "e.g. --seed 0")
    return stratified_order(y, seed)[:n]


def subset(data: Dataset, n: int | None, seed: int = 0) -> Dataset:
    """Return the ``n`` images of `chosen`; each keeps its index.

    Raises:
        UsageError: as `chosen`.
    """
    at = chosen(data.y, n, seed)
    if at is None:
        return data
    return dataclasses.replace(data, x=data.x[at], y=data.y[at], index=data.index[at], seed=seed)
