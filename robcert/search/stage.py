"""Runs one stage: one attack with one budget over the images that are still open.

The loop is: fill free slots, take a few steps, synchronise. What is seen then decides everything else: an image that
is decided leaves at once and its slot is refilled, so images in one batch are at different iterations; when the queue
is empty the batch shrinks. A snapshot of this object, taken after a synchronisation, continues to the same result.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from robcert.accel.stepper import Stepper
from robcert.attacks.protocol import Problem, select
from robcert.bracket import Provenance
from robcert.network.adapt import check_gradient
from robcert.search.budget import most_evaluations
from robcert.search.expectation import draws_of
from robcert.search.finalisation import Finalisation
from robcert.search.oracle import ModelOracle
from robcert.search.problem import SearchProblem, Work
from robcert.search.slots import IDLE, Slots
from robcert.search.snapshot import FORMAT, Snapshot, Spent
from robcert.search.target_classes import TargetClasses
from robcert.search.verifier import Verifier

_COUNTS = ("entered", "left", "work")
_SIGNS = ("zero_gradient", "non_finite", "unconfirmed", "broke")


class Stage:
    """One attack over some images of a run.

    Args:
        search: the network, the images and what counts as success.
        work: the images to attack, how often, and how many at once.
        stepper: takes the steps of the attack; ``stepper.attack.iterations`` is the budget.
        snapshot: where to go on, or None.

    Raises:
        EvaluationError: the attack needs a gradient, and the network has none.
    """

    def __init__(self, search: SearchProblem, work: Work, stepper: Stepper, snapshot: Snapshot | None = None) -> None:
        self.search, self.plan, self.stepper = search, work, stepper
        self.attack, self.bracket = stepper.attack, search.bracket
        check_gradient(search.model.module, self.attack.cost.backwards)
        self.verifier = Verifier(search.model, search.threat, work.slots, search.guard, search.criterion)
        self.finalisation = Finalisation(self.attack, self.verifier)
        self.spent = Spent()
        self.entered = len(work.entrants)
        self.left = 0
        # Of the attacks that have ended since this object is there: evaluations, and whether the image stood then.
        self.taken: list[tuple[int, bool]] = []
        self.zero_gradient: set[int] = set()
        self.non_finite: set[int] = set()
        self.unconfirmed: set[int] = set()
        self.broke: set[int] = set()
        queue = [(position, restart) for restart in range(work.restarts) for position in work.entrants]
        self.work = len(queue)
        self.slots = Slots(queue, self.slots_for(len(queue)))
        self.targeted = bool(getattr(self.attack, "targeted", False))
        self.draws = draws_of(search.model.module)
        self.target_classes = TargetClasses(stepper.networks.exact, search.images, self.draws)
        self.problem = self._problem(self.slots.count)
        self.oracle = self._oracle()
        self.state = self.attack.init(self.problem)
        if snapshot is not None:
            self._restore(snapshot)

    def run(self, synchronised: Callable[[Stage], None] = lambda _: None) -> None:
        """Run to the end; ``synchronised`` is called after every synchronisation, when `snapshot` is consistent."""
        while self.slots.remaining:
            began = time.monotonic()
            self.advance()
            self.synchronise()
            self.fit()
            self.spent.seconds += time.monotonic() - began
            synchronised(self)

    def advance(self) -> None:
        """Fill free slots and take steps up to the next synchronisation; a GPU may still be at them on return."""
        self._fill()
        busy = len(self.slots.busy)
        before = self.oracle.forwards, self.oracle.backwards
        self.state = self.stepper(self.oracle, self.state)
        self.spent.forwards += (self.oracle.forwards - before[0]) * busy
        self.spent.backwards += (self.oracle.backwards - before[1]) * busy

    def synchronise(self) -> None:
        """See what the steps have come to: phases of the attack end, and images that are decided leave."""
        self.state = self.attack.phase(self.problem, self.state)
        self._release()
        self.spent.forwards += self.oracle.confirmed + self.verifier.forwards
        self.oracle.confirmed = self.verifier.forwards = 0

    @property
    def remaining(self) -> int:
        """The number of attacks that run or wait."""
        return self.slots.remaining

    @property
    def pending(self) -> set[int]:
        """The positions that run or wait."""
        return self.slots.pending

    @property
    def running(self) -> float:
        """The attacks that run, each counted by the share of its budget that it has spent."""
        busy = self.slots.busy
        if not busy:
            return 0.0
        whole = most_evaluations(self.attack, self.search.goal)
        return float((self.oracle.evaluations[busy].float() / whole).clamp_max(0.99).sum())

    def snapshot(self) -> Snapshot:
        """Return everything that `run` needs to go on."""
        tensors = self.oracle.rows(self.state)
        meta = {
            "format": FORMAT,
            "queue": self.slots.queue,
            "position": list(self.slots.position),
            "restart": list(self.slots.restart),
            "spent": dict(vars(self.spent)),
            "ranked": sorted(self.target_classes.counted),
            "stepper": self.stepper.progress(),
            **{name: getattr(self, name) for name in _COUNTS},
            **{name: sorted(getattr(self, name)) for name in _SIGNS},
        }
        return Snapshot({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, meta)

    def _restore(self, snapshot: Snapshot) -> None:
        meta = snapshot.meta
        work = [(int(position), int(restart)) for position, restart in meta["queue"]]
        self.slots = Slots(work, len(meta["position"]))
        self.slots.position, self.slots.restart = list(meta["position"]), list(meta["restart"])
        self.spent = Spent(**meta["spent"])
        self.target_classes.counted = set(meta["ranked"])
        self.stepper.resume(meta["stepper"])
        for name in _COUNTS:
            setattr(self, name, meta[name])
        for name in _SIGNS:
            setattr(self, name, set(meta[name]))
        self._allocate(snapshot.tensors)

    def _allocate(self, rows: dict[str, Tensor]) -> None:
        """Make a problem and an oracle of as many slots as there are now, with these rows."""
        self.problem = self._problem(self.slots.count)
        self.oracle = self._oracle()
        self.state = self.oracle.put(rows, self.state)

    def slots_for(self, work: int) -> int:
        """Return the number of slots for so much work."""
        return self.stepper.slots_for(work, self.plan.slots)

    def _oracle(self) -> ModelOracle:
        forward = self.stepper.forward(self.slots.count, self.problem.x.device)
        return ModelOracle(self.problem, forward, self.search.model.rounding, self.search.guard, self.draws)

    def _problem(self, count: int) -> Problem:
        search, x = self.search, self.search.images.x
        middle = (search.threat.box[0] + search.threat.box[1]) / 2
        zeros = torch.zeros(count, dtype=torch.int64, device=x.device)
        return Problem(
            x=torch.full((count, *x.shape[1:]), middle, device=x.device),
            y=zeros,
            index=zeros.clone(),
            restart=zeros.clone(),
            best=torch.full((count,), -1.0, device=x.device),  # nothing is closer: an idle slot notes nothing
            target_classes=torch.zeros(count, search.model.num_classes - 1, dtype=torch.int64, device=x.device),
            threat=search.threat,
            goal=search.goal,
            seed=search.seed,
            criterion=search.criterion,
        )

    def _fill(self) -> None:
        rows = self.slots.fill()
        if not rows:
            return
        problem, images = self.problem, self.search.images
        positions = torch.tensor([self.slots.position[row] for row in rows], device=problem.y.device)
        at = torch.tensor(rows, device=problem.y.device)
        problem.x[at], problem.y[at] = images.x[positions], images.y[positions]
        problem.index[at] = images.index[positions]
        if self.targeted:
            problem.target_classes[at], forwards = self.target_classes(positions.tolist(), self.slots.count)
            self.spent.forwards += forwards
        problem.restart[at] = torch.tensor([self.slots.restart[row] for row in rows], device=problem.y.device)
        known = self.bracket.distance[positions.cpu()].float().to(problem.best.device)
        known = torch.full_like(known, float("inf")) if self.plan.anew else known
        self.oracle.forget(at, known)
        mask = torch.zeros_like(problem.y, dtype=torch.bool)
        mask[at] = True
        self.state = select(mask, self.attack.init(problem), self.state)

    def _release(self) -> None:
        """Let go of slots whose image is decided or whose budget is spent."""
        done = self.state.done.tolist()
        best = self.problem.best.tolist()
        threat, deciding = self.search.threat, self.search.goal == "decide"
        within = threat.with_tolerance(threat.largest, self.problem.shape)
        ended = [row for row in self.slots.busy if done[row]]
        hopeful = [row for row in self.slots.busy if deciding and best[row] <= within and not done[row]]
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
                if deciding and float(self.bracket.distance[position]) <= threat.largest:
                    decided.add(position)
                elif deciding and best[row] <= within:
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
        outcome = (self.finalisation.final if last else self.finalisation.current)(
            self.oracle, self.problem, self.state, at
        )
        self.spent.forwards += outcome.calls
        self.spent.backwards += outcome.calls
        largest = self.search.threat.largest
        for k, row in enumerate(rows):
            how = Provenance(
                self.plan.attack, self.attack.iterations, int(outcome.iteration[k]), self.slots.restart[row]
            )
            position = self.slots.position[row]
            was_open = float(self.bracket.distance[position]) > largest
            outcome.verified.offer(k, self.bracket, position, how)
            if was_open and float(self.bracket.distance[position]) <= largest:
                self.broke.add(position)

    def _diagnose(self, rows: list[int]) -> None:
        evaluations = self.oracle.evaluations.tolist()
        zero, bad = self.oracle.zero_gradients.tolist(), self.oracle.non_finite.tolist()
        for row in rows:
            position = self.slots.position[row]
            if position == IDLE:
                continue
            self.taken.append((evaluations[row], position not in self.broke))
            if zero[row] * 2 >= max(evaluations[row], 1):
                self.zero_gradient.add(position)
            if bad[row]:
                self.non_finite.add(position)

    def fit(self) -> None:
        """Take more slots where more are allowed than before, fewer where that spares a fifth (recorded: half)."""
        count, now = self.slots_for(self.slots.remaining), self.slots.count
        if count > now or (count <= 0.8 * now and self.slots.remaining and not self.slots.waiting):
            self.resize(count)

    def resize(self, count: int) -> None:
        """Have ``count`` slots, with what is busy.

        Raises:
            ValueError: more slots are busy.
        """
        kept = torch.tensor(self.slots.resize(count), device=self.problem.y.device)
        rows = self.oracle.rows(self.state)
        self._allocate({name: tensor[kept] for name, tensor in rows.items()})
        idle = [row for row, position in enumerate(self.slots.position) if position == IDLE]
        self.problem.best[idle] = -1.0  # a new slot is a copy of one that may be busy
