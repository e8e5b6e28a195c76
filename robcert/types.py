"""The words that everything else speaks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, get_args

from robcert.errors import UsageError
from robcert.preparation import Labels, Pipeline
from robcert.threats import threats

if TYPE_CHECKING:
    from torch import Tensor, nn

    from robcert.threats.kind import Budget, ThreatKind

ThreatNorm = str
"""The name of what measures a perturbation: a kind in `robcert.threats`."""

BoundNorm = Literal["l2", "linf", "l1"]
"""What operators have norms in, so that constants and certificates exist; not every `ThreatNorm` is one."""
BOUND_NORMS: tuple[BoundNorm, ...] = get_args(BoundNorm)

Goal = Literal["decide", "minimize"]
GOALS: tuple[Goal, ...] = get_args(Goal)

Status = Literal["wrong", "broken", "certified", "open"]
STATUSES: tuple[Status, ...] = get_args(Status)


def bound_norm(norm: ThreatNorm) -> BoundNorm:
    """Return the norm of a threat as one that operators have norms in.

    Raises:
        UsageError: operators have no norm in it.
    """
    if norm in BOUND_NORMS:
        return norm
    raise UsageError(f"there are certificates and norms of operators in {', '.join(BOUND_NORMS)}, not in {norm}")


def dual(norm: BoundNorm) -> BoundNorm:
    """Return the name of the dual norm: l2 of l2, l1 of linf, linf of l1."""
    names: dict[BoundNorm, BoundNorm] = {"l2": "l2", "linf": "l1", "l1": "linf"}
    return names[norm]


def budget(value: Any) -> float:
    """A budget of a file, in the units of the data: 0.5, or a fraction such as "8/255".

    Raises:
        ValueError: it is no positive finite number.
    """
    if isinstance(value, str):
        try:
            found = float(Fraction(value))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f'{value!r} is no budget: write 0.5 or "8/255"') from None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found = float(value)
    else:
        raise ValueError(f"{value!r} is no number")
    if not (math.isfinite(found) and found > 0):
        raise ValueError(f"a budget is a positive finite number, in the units of the data, not {found:g}")
    return found


UNIT = (0.0, 1.0)
"""The box where nothing says another: the smallest and the largest value of an entry."""


@dataclass(frozen=True)
class Threat:
    """An adversary: what it may do to an image, and the budgets at which it is judged.

    Attributes:
        norm: the name of what measures a perturbation, over all entries of one image.
        eps: the budgets, ascending, in the units of the data (before any normalisation).
        box: the smallest and the largest value that an entry of the input may take.
        kind: what ``norm`` names.

    Raises:
        UsageError: unknown norm; a budget that is not a positive finite number; an empty box.
    """

    norm: ThreatNorm
    eps: tuple[float, ...]
    box: tuple[float, float] = (0.0, 1.0)
    kind: ThreatKind = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", threats.get(self.norm)())
        if not self.eps:
            raise UsageError("no eps was given", "Give at least one budget, e.g. --eps 0.5")
        for value in self.eps:
            if not (math.isfinite(value) and value > 0):
                raise UsageError(
                    f"eps is {value:g}, but a budget is a positive finite number",
                    "Give it in the units of the data, e.g. --eps 0.5 or --eps 0.5,1,1.5",
                )
        if list(self.eps) != sorted(set(self.eps)):
            object.__setattr__(self, "eps", tuple(sorted(set(self.eps))))
        low, high = self.box
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UsageError(f"the box [{low:g}, {high:g}] is empty or not finite")

    @property
    def largest(self) -> float:
        """The largest budget."""
        return self.eps[-1]

    def distance(self, x: Tensor, adversarial: Tensor) -> Tensor:
        """Return how far points (n, *shape) are from images ``x``, measured in float64: (n,) float64."""
        return self.kind.distance(x.double(), adversarial.double())

    def diameter(self, shape: tuple[int, ...]) -> float:
        """Return the largest distance that a point of the box can have from an image of a shape."""
        return self.kind.diameter(shape, self.box)

    def with_tolerance(self, eps: Budget, shape: tuple[int, ...]) -> Budget:
        """Return the largest distance of a float32 image of a shape that was meant to lie within ``eps``."""
        return self.kind.with_tolerance(eps, shape, self.box)

    def too_wide(self, shape: tuple[int, ...]) -> str:
        """Return a sentence about budgets that reach from the middle of the box to all of it; "" where none does.

        Args:
            shape: of one image.
        """
        low, high = self.box
        half = self.diameter(shape) / 2
        wide = [value for value in self.eps if value > half * (1 + 1e-9)]
        if not wide:
            return ""
        listed = ", ".join(f"{value:g}" for value in wide)
        meant = ", ".join(f"{value:g}/255" for value in wide if value >= 1)
        return (
            f"eps {listed} in {self.norm} is wider than half of the box [{low:g}, {high:g}] ({half:.4g}): any image "
            "can be changed into one and the same grey image, so no classifier holds"
            + (f". Budgets are in the units of the data: is {meant} meant?" if meant and high - low <= 2 else "")
        )


@dataclass(frozen=True)
class Batch:
    """Some images: ``x`` (n, *shape) float32, ``y`` (n,) int64, ``index`` (n,) int64 (for ever the same)."""

    x: Tensor
    y: Tensor
    index: Tensor

    def __len__(self) -> int:
        return int(self.x.shape[0])


@dataclass(frozen=True)
class Dataset:
    """A named set of labelled images, or a subset of one.

    Attributes:
        name: how the command line calls it ("digits", "npz:faces.npz").
        split: "test" or "train".
        x: (n, *shape) float32, inside ``box``.
        y: (n,) int64.
        index: (n,) int64, the position of each image in the whole split; kept for ever.
        classes: the names of the classes, in the order of the labels.
        box: the smallest and largest value an entry may take.
        title: how a table calls it ("CIFAR-10 (JPEG)").
        seed: the seed of the subset, or None for the whole split.
        class_order: the numbers of the classes by name, where the user or the network gave them.
        pipeline: what was done to the pictures; None: they are as they were stored.
        ranked: whether nobody gave them: the number of a class is the place of its name among the others.
        notes: what was decided in reading the images, a sentence each.
    """

    name: str
    split: str
    x: Tensor
    y: Tensor
    index: Tensor
    classes: tuple[str, ...]
    box: tuple[float, float] = (0.0, 1.0)
    title: str = ""
    seed: int | None = None
    class_order: Mapping[str, int] | None = None
    pipeline: Pipeline | None = None
    ranked: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.x.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return tuple(int(s) for s in self.x.shape[1:])


@dataclass(frozen=True)
class Source:
    """The origin of a model: what the user typed, the file, its format and the digest of its bytes.

    ``network`` is the digest of the network itself: another normalisation or architecture makes another one of a file.
    """

    reference: str
    path: str
    format: Literal[
        "safetensors",
        "state_dict",
        "torch_export",
        "torchscript",
        "onnx",
        "memory",
        "torchvision",
        "timm",
        "transformers",
    ]
    sha256: str
    network: str = ""


@dataclass(frozen=True)
class LoadedModel:
    """A network that robcert executes: in eval mode, frozen, folded, normalisation included, logits out.

    Attributes:
        module: maps (n, *input_shape) float32 inside ``box`` to logits (n, num_classes).
        name: how a table calls it.
        rounding: the stated rounding bound, relative to the largest |logit| of an image: two correct float32
            executions of this network (other batch size, other kernel, exported) differ by less. Measured at
            load and multiplied by a safety factor; see `robcert.network.probe`.
        card: what is known about the model (the fields of `robcert.network.card.Card`).
        warnings: what the probe noticed.
        notes: what was decided in reading the file, a sentence each.
        no_gradient: why the network has no gradient by its image; "" where it has one.
        pipeline: how a picture becomes its input; None where nobody said it.
        labels: what its classes are called.
    """

    module: nn.Module
    name: str
    input_shape: tuple[int, ...]
    num_classes: int
    box: tuple[float, float]
    source: Source
    rounding: float = 2.0**-20
    card: dict[str, Any] | None = None
    warnings: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())
    no_gradient: str = ""
    pipeline: Pipeline | None = None
    labels: Labels = field(default_factory=Labels)
