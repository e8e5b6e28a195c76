r"""The bracket: what is known about the robustness of images.

The true robustness radius :math:`r^*(x)` of an image lies between the radius of a certificate and the distance of an
adversarial example; everything that robcert says about an image is a view of these two ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from robcert.types import Status


@dataclass(frozen=True)
class Provenance:
    """The origin of an adversarial example.

    Attributes:
        attack: its name, or that of the certificate that met the example.
        iterations: of the attack.
        iteration: the evaluation that saw it.
        restart: of the attack.
    """

    attack: str
    iterations: int
    iteration: int
    restart: int


@dataclass(frozen=True, eq=False)
class Example:
    """A verified adversarial example of one image.

    Attributes:
        point: (*shape) float32, on the host.
        distance: to the clean image, in float64.
        label: the model's answer.
        provenance: how it was found.
    """

    point: Tensor
    distance: float
    label: int
    provenance: Provenance

    @property
    def key(self) -> tuple[Any, ...]:
        """A total order, the closest first; equal only for equal examples."""
        return self.distance, self.label, astuple(self.provenance), self.point.numpy().tobytes()


@dataclass(frozen=True)
class Evidence:
    """The numbers that the radii of a method rest on, the same for all images; a method that has some has a subclass.

    A field is a number, or None where it is not known. Of parts of the images the largest one stands for all, or what
    the ``join`` of the field's metadata makes of them (`counted`).
    """

    @property
    def constants(self) -> dict[str, float]:
        """The numbers by name, as records have them."""
        known = {each.name: getattr(self, each.name) for each in fields(self) if each.metadata.get("constant", True)}
        return {name: value for name, value in known.items() if value is not None}


E = TypeVar("E", bound=Evidence)


def counted() -> Any:
    """Return a field of `Evidence` that counts images or samples: those of parts add up."""
    return field(default=0.0, metadata={"join": sum})


def join_evidence(parts: Sequence[E]) -> E:
    """Return the evidence on all images from that on parts of them."""
    told: dict[str, Any] = {}
    for each in fields(parts[0]):
        values = [value for part in parts if (value := getattr(part, each.name)) is not None]
        told[each.name] = each.metadata.get("join", max)(values) if values else None
    return replace(parts[0], **told)


@dataclass(frozen=True, order=True)
class Certificate:
    """A proof that no perturbation smaller than a radius changes the answer to one image. The larger radius is better.

    Attributes:
        radius: for the executed float32 network; 0 where nothing is proven of it.
        radius_real: for the network in real arithmetic.
        method: its name.
        binding: the constant of the method that decided, or the step of the ladder that found the radius.
        evidence: what the radii of the method rest on.
    """

    radius: float
    radius_real: float
    method: str
    binding: str = ""
    evidence: Evidence = field(default_factory=Evidence, compare=False)


class Bracket:
    """The images of one model as far as they are known: wrong ones, best examples and best certificates.

    One object for all images, not one an image: attacks, early stopping and counts ask for masks over all of them, and
    an attack improves single images in place. It only ever narrows.

    Args:
        index: (n,) int64, of the images in their data set.
        wrong: (n,) bool, misclassified without any perturbation; by default none is.

    Attributes:
        examples: the closest verified example of every image, or None.
        certificates: the certificate with the largest radius of every image, or None.
        distance: (n,) float64, of the examples; inf where there is none.
        radius: (n,) float64, of the certificates, for the executed network; 0 where there is none.
    """

    def __init__(self, index: Tensor, wrong: Tensor | None = None) -> None:
        n = len(index)
        self.index = index.cpu()
        self.wrong = torch.zeros(n, dtype=torch.bool) if wrong is None else wrong.cpu()
        self.examples: list[Example | None] = [None] * n
        self.certificates: list[Certificate | None] = [None] * n
        self.distance = torch.full((n,), float("inf"), dtype=torch.float64)
        self.radius = torch.zeros(n, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.examples)

    def update(self, position: int, found: Example | Certificate) -> bool:
        """Keep what was found about the image at a position if it is closer, or certifies more, than what is known.

        Returns:
            Whether it was kept.
        """
        if isinstance(found, Example):
            if found.distance >= float(self.distance[position]):
                return False
            self._put_example(position, found)
            return True
        known = self.certificates[position]
        if max(found.radius, found.radius_real) <= 0 or (known is not None and found <= known):
            return False
        self.certificates[position] = found
        self.radius[position] = found.radius
        return True

    def merge(self, other: Bracket) -> Bracket:
        """Return what two brackets of one model and one norm know together, about the images of either.

        Of two examples that are equally far, or certificates of one radius, the same is kept whichever comes first.
        """
        at = {index: k for k, index in enumerate(self.index.tolist())}
        new = [k for k, index in enumerate(other.index.tolist()) if index not in at]
        both = Bracket(torch.cat([self.index, other.index[new]]), torch.cat([self.wrong, other.wrong[new]]))
        at = {index: k for k, index in enumerate(both.index.tolist())}
        for one in (self, other):
            for k, index in enumerate(one.index.tolist()):
                position, example, certificate = at[index], one.examples[k], one.certificates[k]
                both.wrong[position] |= one.wrong[k]
                known = both.examples[position]
                if example is not None and (known is None or example.key < known.key):
                    both._put_example(position, example)
                if certificate is not None:
                    both.update(position, certificate)
        return both

    def verdict(self, eps: float) -> list[Status]:
        """Return the verdict of every image at a budget."""
        broken, certified = (self.distance <= eps).tolist(), self.certified(eps).tolist()
        return [
            "wrong" if wrong else "broken" if broken[k] else "certified" if certified[k] else "open"
            for k, wrong in enumerate(self.wrong.tolist())
        ]

    def certified(self, eps: float) -> Tensor:
        """(n,) bool: the certified radius exceeds the budget."""
        return self.radius > eps

    def standing(self, eps: float) -> Tensor:
        """(n,) bool: right, and no example within the budget is known; certified images included."""
        return ~self.wrong & (self.distance > eps)

    def contradictions(self) -> list[int]:
        """Return the positions of images whose example is not beyond their certified radius: a defect of robcert."""
        return (self.distance <= self.radius).nonzero().flatten().tolist()

    def found(self) -> dict[int, Example]:
        """Return the examples that there are, by position, ascending."""
        return {position: example for position, example in enumerate(self.examples) if example is not None}

    def points(self, positions: list[int]) -> Tensor:
        """Return the examples of images that have one: (m, *shape) float32, on the host."""
        return torch.stack([example.point for p in positions if (example := self.examples[p]) is not None])

    def _put_example(self, position: int, example: Example) -> None:
        self.examples[position] = example
        self.distance[position] = example.distance
