"""The 8x8 digits that come with scikit-learn: the data set that needs no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from robcert.data.source import Images, Request, dataset
from robcert.data.subset import stratified_order

CLASSES = tuple(str(digit) for digit in range(10))
_TEST = 500
_SEED = 0


@dataset("digits", title="Digits", classes=CLASSES, shape=(1, 8, 8), sizes={"test": _TEST, "train": 1797 - _TEST})
def read_digits(request: Request) -> Images:
    """The UCI optical digits: 1,797 grey images of 8x8 pixels with 17 levels, divided by 16.

    The split is fixed: 500 stratified test images, the other 1,297 for training, each in scikit-learn's
    order.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """
    package = find_spec("sklearn")  # its file alone: to import it takes a second
    assert package is not None, "a dependency of robcert"
    assert package.origin is not None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    table = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.int64))
    x, y = table[:, :-1].view(-1, 1, 8, 8).to(torch.float32) / 16, table[:, -1].clone()
    test = torch.zeros(len(y), dtype=torch.bool)
    test[stratified_order(y, _SEED)[:_TEST]] = True
    chosen = test if request.split == "test" else ~test
    return Images(x[chosen], y[chosen], CLASSES)
