"""Runs one leg: one attack with one budget over the images that are still open.

The loop is: fill free slots, a few steps, look. What "look" sees decides everything else: an image that is decided
leaves at once and its slot is refilled, so images in one batch are at different iterations; when the queue is
empty the batch shrinks. A snapshot of this object, taken between two looks, continues to the same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from robcert.accel.capture import Recorder, recorder_for
from robcert.accel.precision import Lowered
from robcert.attacks.protocol import Attack, Problem, Refining, select
from robcert.bracket import Bracket, Provenance
from robcert.criteria import Criterion
from robcert.criteria.misclassified import MISCLASSIFIED
from robcert.math.norms import nearly
from robcert.network.adapt import check_gradient
from robcert.network.batching import bucket, eights
from robcert.search.expectation import draws_of
from robcert.search.finalisation import Ending
from robcert.search.fusion import Compiler, compiler_for
from robcert.search.oracle import Guard, ModelOracle
from robcert.search.rows import put_rows, rows_of
from robcert.search.slots import IDLE, Slots
from robcert.search.snapshot import Snapshot, Spent
from robcert.search.steps import Steps
from robcert.search.target_classes import Rivals
from robcert.search.verifier import Verifier
from robcert.types import Batch, Goal, LoadedModel, Threat

_COUNTS = ("entered", "left", "work")
_SIGNS = ("zero_gradient", "non_finite", "unconfirmed", "broke")


class Leg:
    """One attack over some images of a run.

    Args:
        model: the network.
        attack: with its options; ``attack.iterations`` is the budget.
        name: what a table calls the attack.
        images: all images of the run, on the device.
        bracket: what is known about the images; the leg adds examples.
        threat, goal, seed: see `Problem`.
        entrants: positions of the images to attack.
        restarts: how often each is attacked.
        slots: the most images attacked at once.
        snapshot: where to go on, or None.
        search: a bfloat16 copy of the network for the coarse part of the search, or None.
        layout: the network in the memory format that is faster here, which the search calls
            (`robcert.accel.layout`); the verifier calls that of ``model``.
        guard: a detector that examples have to get past, or None.
        recorder: what the steps between two looks are recorded with; None: a CUDA graph where there is one.
        compiler: what fuses them in a long leg; None: TorchInductor where there is a GPU.
        anew: every search begins as if no example were known, so that it notes its own near misses.
        criterion: what counts as success.

    Raises:
        EvaluationError: the attack needs a gradient, and the network has none.
    """

    def __init__(
        self,
        model: LoadedModel,
        attack: Attack,
        name: str,
        images: Batch,
        bracket: Bracket,
        threat: Threat,
        goal: Goal,
        seed: int,
        entrants: list[int],
        restarts: int,
        slots: int,
        snapshot: Snapshot | None = None,
        search: Lowered | None = None,
        layout: nn.Module | None = None,
        guard: Guard | None = None,
        recorder: Recorder | None = None,
        compiler: Compiler | None = None,
        anew: bool = False,
        criterion: Criterion = MISCLASSIFIED,
    ) -> None:
        self.anew = anew
        check_gradient(model.module, attack.cost.backwards)
        self.search = search if isinstance(attack, Refining) else None
        self.model, self.attack, self.name = model, attack, name
        self.module = layout or model.module
        self.images, self.bracket = images, bracket
        self.threat, self.seed = threat, seed
        self.goal: Goal = goal
        self.guard, self.criterion = guard, criterion
        self.verifier = Verifier(model, threat, slots, guard, criterion)
        self.ending = Ending(model, attack, self.verifier)
        self.spent = Spent()
        self.entered = len(entrants)
        self.left = 0
        self.zero_gradient: set[int] = set()
        self.non_finite: set[int] = set()
        self.unconfirmed: set[int] = set()
        self.broke: set[int] = set()
        work = [(position, restart) for restart in range(restarts) for position in entrants]
        self.work = len(work)
        self.recorder = recorder or recorder_for(images.x.device)
        self.most = slots
        self.slots = Slots.fresh(work, self.slots_for(len(work)))
        self.targeted = bool(getattr(attack, "targeted", False))
        self.draws = draws_of(model.module)
        self.rivals = Rivals(self.module, images, self.draws)
        self.problem = self._problem(self.slots.count)
        self.oracle = self._oracle()
        self.state = attack.init(self.problem)
        self.steps = Steps(attack, self.search is not None, self.recorder, compiler or compiler_for(images.x.device))
        if snapshot is not None:
            self._restore(snapshot)

    def run(self, look: Callable[[Leg], None] = lambda _: None) -> None:
        """Run to the end; ``look`` is called between two looks, when `snapshot` is consistent."""
        while self.slots.remaining:
            began = time.monotonic()
            self.advance()
            self.settle()
            self.fit()
            self.spent.seconds += time.monotonic() - began
            look(self)

    def advance(self) -> None:
        """Fill free slots and take the steps up to the next look; a GPU may still be at them when this returns."""
        self._fill()
        busy = len(self.slots.busy)
        before = self.oracle.forwards, self.oracle.backwards
        self.state = self.steps(self.oracle, self.problem, self.state)
        self.spent.forwards += (self.oracle.forwards - before[0]) * busy
        self.spent.backwards += (self.oracle.backwards - before[1]) * busy

    def settle(self) -> None:
        """What the look decides: stages end, and images that are decided leave."""
        self.state = self.attack.phase(self.problem, self.state)
        self._harvest()
        self.spent.forwards += self.oracle.confirmed + self.verifier.forwards
        self.oracle.confirmed = self.verifier.forwards = 0

    @property
    def remaining(self) -> int:
        """How many attacks run or wait."""
        return self.slots.remaining

    @property
    def pending(self) -> set[int]:
        """The positions that run or wait."""
        waiting = {position for position, _ in self.slots.queue}
        return waiting.union(self.slots.position[row] for row in self.slots.busy)

    @property
    def running(self) -> float:
        """What runs, in attacks: each by the share of a search step that it has spent."""
        busy = self.slots.busy
        if not busy:
            return 0.0
        whole = max(1, self.attack.iterations)
        return float((self.oracle.evaluations[busy].float() / whole).clamp_max(0.99).sum())

    def snapshot(self) -> Snapshot:
        """Everything that `run` needs to go on."""
        tensors = rows_of(self.problem, self.oracle, self.state)
        meta = {
            "queue": list(self.slots.queue),
            "position": list(self.slots.position),
            "restart": list(self.slots.restart),
            "spent": dict(vars(self.spent)),
            "ranked": sorted(self.rivals.counted),
            "taken": list(self.steps.taken),
            "unfused": self.steps.unfused,
            **{name: getattr(self, name) for name in _COUNTS},
            **{name: sorted(getattr(self, name)) for name in _SIGNS},
        }
        return Snapshot({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, meta)

    def _restore(self, snapshot: Snapshot) -> None:
        meta = snapshot.meta
        work = [(int(position), int(restart)) for position, restart in meta["queue"]]
        self.slots = Slots.fresh(work, len(meta["position"]))
        self.slots.position, self.slots.restart = list(meta["position"]), list(meta["restart"])
        self.spent = Spent(**meta["spent"])
        self.rivals.counted = set(meta.get("ranked", ()))
        self.steps.resume(meta.get("taken", (0, 0)), meta.get("unfused"))
        for name in _COUNTS:
            setattr(self, name, meta[name])
        for name in _SIGNS:
            setattr(self, name, set(meta[name]))
        self._seat(snapshot.tensors)

    def _seat(self, rows: dict[str, Tensor]) -> None:
        """A problem and an oracle of as many slots as there are now, with these rows."""
        self.problem = self._problem(self.slots.count)
        self.oracle = self._oracle()
        self.state = put_rows(rows, self.problem, self.oracle, self.state)

    def slots_for(self, work: int) -> int:
        """How many slots so much work gets."""
        return (eights if self.recorder is None else bucket)(work, self.most)

    def _oracle(self) -> ModelOracle:
        return ModelOracle(self.module, self.problem, self.model.rounding, self.search, self.guard, self.draws)

    def _problem(self, count: int) -> Problem:
        x = self.images.x
        middle = (self.threat.box[0] + self.threat.box[1]) / 2
        zeros = torch.zeros(count, dtype=torch.int64, device=x.device)
        return Problem(
            x=torch.full((count, *x.shape[1:]), middle, device=x.device),
            y=zeros,
            index=zeros.clone(),
            restart=zeros.clone(),
            best=torch.full((count,), -1.0, device=x.device),  # nothing is closer: an idle slot notes nothing
            rivals=torch.zeros(count, self.model.num_classes - 1, dtype=torch.int64, device=x.device),
            threat=self.threat,
            goal=self.goal,
            seed=self.seed,
            criterion=self.criterion,
        )

    def _fill(self) -> None:
        rows = self.slots.fill()
        if not rows:
            return
        problem = self.problem
        positions = torch.tensor([self.slots.position[row] for row in rows], device=problem.y.device)
        at = torch.tensor(rows, device=problem.y.device)
        problem.x[at], problem.y[at] = self.images.x[positions], self.images.y[positions]
        problem.index[at] = self.images.index[positions]
        if self.targeted:
            problem.rivals[at], forwards = self.rivals(positions.tolist(), self.slots.count)
            self.spent.forwards += forwards
        problem.restart[at] = torch.tensor([self.slots.restart[row] for row in rows], device=problem.y.device)
        known = self.bracket.distance[positions.cpu()].float().to(problem.best.device)
        known = torch.full_like(known, float("inf")) if self.anew else known
        self.oracle.forget(at, known)
        mask = torch.zeros_like(problem.y, dtype=torch.bool)
        mask[at] = True
        self.state = select(mask, self.attack.init(problem), self.state)

    def _harvest(self) -> None:
        """Let go of slots whose image is decided or whose budget is spent."""
        done = self.state.done.tolist()
        best = self.problem.best.tolist()
        within = nearly(self.threat.largest, self.threat, self.problem.x.shape[1:].numel())
        ended = [row for row in self.slots.busy if done[row]]
        hopeful = [row for row in self.slots.busy if self.goal == "decide" and best[row] <= within and not done[row]]
        if not ended and not hopeful:
            return
        decided: set[int] = set()
        let_go = list(ended)
        for rows, last in ((hopeful, False), (ended, True)):
            if not rows:
                continue
            self._verify(rows, last)
            for row in rows:
                position = self.slots.position[row]
                if self.goal == "decide" and float(self.bracket.distance[position]) <= self.threat.largest:
                    decided.add(position)
                elif self.goal == "decide" and best[row] <= within:
                    # Refused: forget the point, so that the search goes on instead of stopping at it again.
                    self.unconfirmed.add(position)
                    self.problem.best[row] = float(self.bracket.distance[position])
        let_go += [row for row in self.slots.busy if self.slots.position[row] in decided and row not in let_go]
        self._diagnose(let_go)
        before = self.slots.remaining
        self.slots.free(let_go)
        self.slots.drop(decided)
        self.left += before - self.slots.remaining
        self.problem.best[torch.tensor(let_go, dtype=torch.int64, device=self.problem.best.device)] = -1.0

    def _verify(self, rows: list[int], last: bool) -> None:
        """Offer what the search of each slot has come to; ``last``: the attack has ended there."""
        at = torch.tensor(rows, device=self.problem.y.device)
        outcome = (self.ending.closest if last else self.ending.so_far)(self.oracle, self.problem, self.state, at)
        self.spent.forwards += outcome.calls
        self.spent.backwards += outcome.calls
        for k, row in enumerate(rows):
            how = Provenance(self.name, self.attack.iterations, int(outcome.iteration[k]), self.slots.restart[row])
            position = self.slots.position[row]
            was_open = float(self.bracket.distance[position]) > self.threat.largest
            outcome.verified.offer(k, self.bracket, position, how)
            if was_open and float(self.bracket.distance[position]) <= self.threat.largest:
                self.broke.add(position)

    def _diagnose(self, rows: list[int]) -> None:
        evaluations = self.oracle.evaluations.tolist()
        zero, bad = self.oracle.zero_gradients.tolist(), self.oracle.non_finite.tolist()
        for row in rows:
            position = self.slots.position[row]
            if position == IDLE:
                continue
            if zero[row] * 2 >= max(evaluations[row], 1):
                self.zero_gradient.add(position)
            if bad[row]:
                self.non_finite.add(position)

    def fit(self) -> None:
        """More slots where more are allowed than before, fewer where that spares a fifth of them (recorded: half)."""
        count, now = self.slots_for(self.slots.remaining), self.slots.count
        if count > now or (count <= 0.8 * now and self.slots.remaining and not self.slots.queue):
            self.resize(count)

    def resize(self, count: int) -> None:
        """Have ``count`` slots, with what is busy.

        Raises:
            ValueError: more slots are busy.
        """
        kept = torch.tensor(self.slots.resize(count), device=self.problem.y.device)
        rows = rows_of(self.problem, self.oracle, self.state)
        self._seat({name: tensor[kept] for name, tensor in rows.items()})
        idle = [row for row, position in enumerate(self.slots.position) if position == IDLE]
        self.problem.best[idle] = -1.0  # a new slot is a copy of one that may be busy
