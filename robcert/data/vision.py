"""The data sets that torchvision reads: MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from robcert.data.source import ENVIRONMENT, Images, Request, dataset
from robcert.errors import EvaluationError

_DIGITS = tuple(str(digit) for digit in range(10))
_TOPS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
_FASHION = (*_TOPS, "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Placeholders for the overview: the real names are in the files.
_CIFAR100 = tuple(f"class {label}" for label in range(100))
_SIXTY = {"test": 10_000, "train": 60_000}
_FIFTY = {"test": 10_000, "train": 50_000}
# torchvision unpacks the .gz files that it downloads, and then reads the unpacked ones only.
_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class _Layout:
    """A class in ``torchvision.datasets``, the folder that it reads below its root, and files in it."""

    reader: str
    folder: str
    files: tuple[str, ...]

    def places(self, request: Request) -> list[tuple[Path, bool]]:
        """The folder below each root, and whether all files are in it."""
        folders = [root / self.folder for root in request.roots]
        return [(folder, all((folder / file).is_file() for file in self.files)) for folder in folders]

    def read(self, request: Request) -> Images:
        """Reads the first root that has the files; downloads into the first root if that is allowed.

        Raises:
            EvaluationError: the files are missing, damaged, or could not be downloaded.
        """
        places = self.places(request)
        found = [root for root, (_, there) in zip(request.roots, places, strict=True) if there]
        if not found and not request.download:
            raise self._missing(request, [folder for folder, _ in places])
        root = found[0] if found else request.roots[0]
        # Imported late: it takes a second, and an installed torchvision may be broken.
        from robcert.vision import torchvision

        module: Any = importlib.import_module(f"{torchvision().__name__}.datasets")
        try:
            data: Any = getattr(module, self.reader)(str(root), train=request.split == "train", download=not found)
            x = torch.as_tensor(data.data)
            y = torch.as_tensor(data.targets)
            classes = tuple(str(name) for name in data.classes)
        except Exception as error:
            # The readers fail in many ways (assert, EOFError, RuntimeError, URLError); to the user they are
            # one.
            verb = "read" if found else "downloaded"
            raise EvaluationError(
                f"{request.name} could not be {verb} ({root / self.folder}): {type(error).__name__}: {error}",
                f"Remove that folder, then: --data {request.name} --data-dir {root} --download",
            ) from error
        # The MNIST family is (n, h, w), CIFAR is (n, h, w, c).
        return Images(x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2), y, classes)

    def _missing(self, request: Request, places: list[Path]) -> EvaluationError:
        looked = "".join(f"\n  {place}" for place in places)
        return EvaluationError(
            f"the files of {request.name} were not found; looked for {self.files[0]} and others in{looked}",
            f"Fetch them: --data {request.name} --download\nOr name the folder that holds {self.folder}:"
            f" --data {request.name} --data-dir FOLDER (or {ENVIRONMENT}=FOLDER)",
        )


_mnist = _Layout("MNIST", "MNIST/raw", _IDX)
_fashion = _Layout("FashionMNIST", "FashionMNIST/raw", _IDX)
_cifar10 = _Layout("CIFAR10", "cifar-10-batches-py", ("batches.meta", "test_batch", "data_batch_1"))
_cifar100 = _Layout("CIFAR100", "cifar-100-python", ("meta", "test", "train"))


@dataset("mnist", title="MNIST", classes=_DIGITS, shape=(1, 28, 28), sizes=_SIXTY, places=_mnist.places)
def read_mnist(request: Request) -> Images:
    """Handwritten digits, 28x28 grey."""
    return replace(_mnist.read(request), classes=_DIGITS)


@dataset(
    "fashion-mnist",
    title="Fashion-MNIST",
    classes=_FASHION,
    shape=(1, 28, 28),
    sizes=_SIXTY,
    places=_fashion.places,
)
def read_fashion_mnist(request: Request) -> Images:
    """Articles of clothing, 28x28 grey."""
    return _fashion.read(request)


@dataset("cifar10", title="CIFAR-10", classes=_CIFAR10, shape=(3, 32, 32), sizes=_FIFTY, places=_cifar10.places)
def read_cifar10(request: Request) -> Images:
    """Small photographs of ten classes, 32x32 colour."""
    return _cifar10.read(request)


@dataset(
    "cifar100",
    title="CIFAR-100",
    classes=_CIFAR100,
    shape=(3, 32, 32),
    sizes=_FIFTY,
    places=_cifar100.places,
)
def read_cifar100(request: Request) -> Images:
    """Small photographs of a hundred classes, 32x32 colour; the names of the classes are in the files."""
    return _cifar100.read(request)
