"""Kinds of requirements; one file a kind, each registered by its decorator under the key of the policy.

A kind either measures something at once (`Measured`) or asks a question that attacks answer (`Attacked`). What a policy
may say is known without torch: a kind imports what it measures with when it measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from robcert.policy.verdict import Grade, Mask, Question
from robcert.registry import Registry
from robcert.types import Batch, Dataset, LoadedModel, Threat, ThreatNorm

if TYPE_CHECKING:
    from torch import Tensor

    from robcert.policy.schema import Requirement


@dataclass(eq=False)
class Subject:
    """A model and the images on which it is judged; what several requirements need is computed once.

    Attributes:
        model: the network.
        data: the images.
        sample: whether there are more images in the data set than these.
        baseline: by requirement name, what stood in the baseline: image index to answer; None without a baseline.
        late: whether the time budget is spent.
        time_per_image: CPU seconds for the certificate of each image.
    """

    model: LoadedModel
    data: Dataset
    sample: bool
    baseline: Mapping[str, Mapping[int, bool]] | None = None
    late: Callable[[], bool] = lambda: False
    time_per_image: float | None = 5.0
    _certified: dict[tuple[str, ThreatNorm, float], tuple[Mask, str]] = field(default_factory=dict)

    @cached_property
    def correct(self) -> Mask:
        """(n,) bool: the clean image is answered rightly; errors as `robcert.runs.clean_images.clean_logits`."""
        from robcert.network.batching import default_slots
        from robcert.runs.clean_images import misclassified

        return ~misclassified(self.model, self.data, default_slots(self.data.x[0].numel())).numpy()

    @cached_property
    def gaps(self) -> Tensor:
        """(n,) float64: the largest logit less the second largest; errors as `correct`."""
        from robcert.network.batching import default_slots
        from robcert.runs.clean_images import clean_logits

        slots = default_slots(self.data.x[0].numel())
        two = clean_logits(self.model, self.data, slots).double().topk(2, dim=1).values
        return two[:, 0] - two[:, 1]

    def certified(self, method: str, norm: ThreatNorm, eps: float) -> tuple[Mask, str]:
        """(n,) bool: the certified radius exceeds eps; and why none does, or which images had no time left, or ""."""
        from robcert.bracket import Bracket
        from robcert.runs.out_of_time import out_of_time, time_line
        from robcert.runs.proof import prove
        from robcert.search.problem import SearchProblem

        key = (method, norm, eps)
        if key not in self._certified:
            images = Batch(self.data.x, self.data.y, self.data.index)
            threat = Threat(norm, (eps,), self.data.box)
            search = SearchProblem(self.model, images, Bracket(images.index), threat, "decide")
            attempt = prove(method, self.model, search, self.time_per_image)
            late = time_line(out_of_time(attempt.found, images.index), len(images.x))
            self._certified[key] = search.bracket.certified(eps).numpy(), attempt.refused or late
        return self._certified[key]

    def confidence(self, requirement: Requirement) -> float | None:
        """Return the confidence that the policy asks for on a sample; None where all images were seen."""
        return requirement.confidence if self.sample else None


@dataclass(frozen=True)
class Measurement:
    """The finding of a kind that needs no attack.

    Attributes:
        grade: the verdict.
        value: the figure.
        bounds: one-sided bounds on it, where it is a share of a sample.
        right: (n,) bool, the images that count, where the figure is a share.
        question: what was asked about them.
        confidence: of the bounds, where it is not that of the sample of images.
        note: what a reader should know.
        forwards, backwards: of the attacks that it needed, in images.
    """

    grade: Grade
    value: float
    bounds: tuple[float, float] | None = None
    right: Mask | None = None
    question: Question | None = None
    confidence: float | None = None
    note: str = ""
    forwards: int = 0
    backwards: int = 0


class Kind(Protocol):
    """Facts that every kind states.

    Attributes:
        title: as a sentence says it ("attacked accuracy").
        sign: whether the limit is the least or the most.
        needs: keys that a requirement must have; ``takes``: further ones that it may.
        largest: the largest limit that makes sense.
    """

    title: ClassVar[str]
    sign: ClassVar[Literal["at least", "at most"]]
    needs: ClassVar[frozenset[str]]
    takes: ClassVar[frozenset[str]]
    largest: ClassVar[float]


class Measured(Kind, Protocol):
    """Measured at once, without an attack."""

    def measure(self, requirement: Requirement, subject: Subject) -> Measurement:
        """Measure and judge."""
        ...


class Attacked(Kind, Protocol):
    """Answered by a run of attacks."""

    def eps(self, requirement: Requirement) -> float:
        """The budget of the attacks."""
        ...

    def question(self, requirement: Requirement, subject: Subject) -> Question:
        """Return the question about the images that stand."""
        ...


kinds: Registry[Kind] = Registry("requirement", "robcert.policy.kinds")
"""Keys of a policy to what they mean."""

requirement = kinds.register
