"""One run in progress: a model through its certificates, the legs of the plan, and the checks after them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from torch import Tensor

from robcert.accel.precision import Lowered
from robcert.accel.stepper import Networks
from robcert.bracket import Bracket
from robcert.criteria import criteria
from robcert.errors import EvaluationError, Interrupted, RobcertError, first_line, network_fault, raised_by_network
from robcert.progress import Work, working
from robcert.runs import summary
from robcert.runs.acceleration import Acceleration
from robcert.runs.artefacts import (
    artefact_name,
    exported,
    is_stored,
    write_contradiction,
    write_examples,
    write_network,
)
from robcert.runs.checks import check_answers, check_unbounded
from robcert.runs.clean_images import clean_logits, met
from robcert.runs.diagnostics import WeakerWin
from robcert.runs.execution import Execution
from robcert.runs.legs import StagedLeg
from robcert.runs.lengthen import lengthened
from robcert.runs.plan import LegPlan, build
from robcert.runs.proof import Attempt, prove, verify_counterexamples
from robcert.runs.record import LegRecord, ModelRecord, RunSpec, SpentRecord
from robcert.runs.run_progress import RunProgress
from robcert.runs.spec import legs_of, seed_of, threat_of
from robcert.runs.stop_condition import Stopped
from robcert.runs.store import Progress, RunStore
from robcert.runs.weaker_wins import Rerun, weaker_wins
from robcert.search.expectation import averaged, single_draw
from robcert.search.problem import SearchProblem
from robcert.search.stage import Stage
from robcert.types import Batch, Dataset, LoadedModel

_NOT_STORED = "the network is not stored beside its adversarial examples"


@dataclass(frozen=True)
class Checks:
    """Notes of the checks after the legs, their cost, and the attacks that beat those which know more."""

    notes: Sequence[dict[str, list[int]]] = ()
    spent: SpentRecord = field(default_factory=SpentRecord)
    weaker_wins: Sequence[WeakerWin] = ()


@dataclass
class ModelRun:
    """One model of a run in progress.

    Attributes:
        number: its position among the models of the run.
        search: the model, the images, all budgets, and what is known about the images.
        attempt: how its certificate went.
        progress: the legs that have ended, and the one that was interrupted.
        before_attacks: images that stood at each budget before the first leg.
        plan: the legs, with those by which the plan was lengthened.
        told: what a listener hears of it.
        low: the copy in low precision that was searched in, or None.
    """

    number: int
    search: SearchProblem
    attempt: Attempt
    progress: Progress
    before_attacks: list[int]
    plan: list[LegPlan]
    told: RunProgress
    low: Lowered | None = None


class Runner:
    """One run in progress.

    Args:
        data: the images.
        spec: what to do.
        store: where the run is kept, or None.
        execution: how it is done.
        slots: the most images attacked at once, before a larger number is tried.
        interrupted: answers whether somebody asked the run to end.
    """

    def __init__(
        self,
        data: Dataset,
        spec: RunSpec,
        store: RunStore | None,
        execution: Execution,
        slots: int,
        interrupted: Callable[[], bool],
    ) -> None:
        self.data, self.spec, self.store, self.execution = data, spec, store, execution
        self.slots, self.width, self.interrupted = slots, slots, interrupted
        self.acceleration = Acceleration(data.x[:slots], spec.search_precision, store, execution)
        self.reporter = execution.reporter
        self.threat, self.plan, self.criterion = threat_of(spec), legs_of(spec), criteria.get(spec.criterion)

    def model(self, number: int, model: LoadedModel, known: Callable[[ModelRecord], None]) -> ModelRecord:
        """Attack one model through the whole plan.

        Args:
            number: its position among the models of the run.
            model: the network.
            known: is given the record as soon as the last leg has ended, and again whenever more is in it. What comes
                after the legs (checks, storing examples and the network) can no longer lose what they found.

        Returns:
            The record; its ``missing`` says what could not be done or stored after the legs.
        """
        with working(model.name) as work:
            return self._model(number, model, known, work)

    def _model(self, number: int, model: LoadedModel, known: Callable[[ModelRecord], None], work: Work) -> ModelRecord:
        model = averaged(model, self.spec.eot)
        clean = clean_logits(model, self.data, self.slots)
        run = self._begin(number, model, met(self.criterion, clean, self.data.y.cpu()), work)
        progress, natural = run.progress, int((~run.search.bracket.wrong).sum())
        self.reporter.model(model.name, natural, len(self.data), len(progress.legs))

        def summarized(stopped: str | None, more: Checks | None = None) -> ModelRecord:
            more = more or Checks()
            found = summary.Findings(
                legs=progress.legs,
                notes=[*progress.notes, *more.notes],
                stopped=stopped,
                weaker_wins=more.weaker_wins,
                by_certificate=[natural - left for left in run.before_attacks],
                search_precision=self.acceleration.precision(run.number, run.low),
                checks=more.spent,
            )
            return summary.summarize(run.search, run.attempt, found, self.spec.flat)

        missing: list[str] = []
        store_network = self._network_writer(number, single_draw(model), missing)
        try:
            stopped = self._legs(run)
        except Interrupted:
            raise
        except Exception as error:
            if progress.legs:  # they were paid for
                reason = f"leg {len(progress.legs) + 1} of {len(run.plan)} could not be done: {_said(error)}"
                known(summarized(reason))
            raise
        record = summarized(stopped)
        known(record)
        run.told.doing("checks after the attack")
        if stopped is None:
            with self._may_fail("the checks after the attack were not done", missing):
                record = summarized(None, self._checks(run, clean))
        run.told.doing("storing the examples and the network")
        if self.store:
            name = artefact_name(self.spec, number)
            with self._may_fail("the adversarial examples are not stored", missing):
                write_examples(self.store, name, run.search, record, self.data.classes)
            if store_network is not None:
                with self._may_fail(_NOT_STORED, missing):
                    store_network()
        with self._may_fail("the record lacks what came after the attack", missing):
            known(record.model_copy(update={"missing": missing}))
        return record.model_copy(update={"missing": missing})

    def _begin(self, number: int, model: LoadedModel, wrong: Tensor, work: Work) -> ModelRun:
        """Certify the images, and read what was found before."""
        spec, images = self.spec, Batch(self.data.x, self.data.y, self.data.index)
        bracket = Bracket(images.index, wrong)
        search = SearchProblem(model, images, bracket, self.threat, spec.goal, spec.seed, self.criterion)
        progress = self.store.progress(number, bracket) if self.store else Progress()
        many = len(spec.models) > 1
        name = work.title = f"{model.name} (model {number + 1} of {len(spec.models)})" if many else model.name
        attempt = prove(spec.certify, single_draw(model), search, spec.time_per_image)
        certificate = verify_counterexamples(attempt, search, self.slots)
        if not progress.legs:
            for position, example in certificate.found().items():
                bracket.update(position, example)
        plan = [*self.plan, *(_planned(leg) for leg in progress.legs[len(self.plan) :])]
        told = RunProgress(work, name, search, spec.options)
        before = summary.attacked_correct(certificate, self.threat)
        run = ModelRun(number, search, attempt, progress, before, plan, told)
        self._contradictions(run)
        return run

    def _legs(self, run: ModelRun) -> str | None:
        """Run the legs that are left; return why they were ended early, or None."""
        networks: Networks | None = None
        progress, bracket = run.progress, run.search.bracket
        while (k := len(progress.legs)) < len(run.plan) or self._lengthen(run):
            # A leg that was interrupted is taken up first, so that its cost is in the record.
            if progress.snapshot is None and (stopped := self._seen_enough(bracket)) is not None:
                return stopped
            if networks is None:
                run.told.doing("measuring which numbers and layout are faster")
                networks = self.acceleration.networks(run.number, run.search.model)
                run.low = networks.low
                self.width = self.acceleration.batch_size(run.number, networks, self.slots)
            run.told.leg(run.plan, k)
            record, notes, stopped = self._leg(run, networks, k)
            self._contradictions(run)
            progress.legs.append(record)
            progress.notes.append(notes)
            self.reporter.leg_done(record)
            if stopped is not None:
                return stopped
            if self.store:
                self.store.finish_leg(run.number, k, bracket, record, notes)
        return None

    def _lengthen(self, run: ModelRun) -> bool:
        """Add a leg to a plan that goes on until its sweep is decided; return whether there is one more."""
        if self.spec.until is None:
            return False
        found = lengthened(run.progress.legs, run.search.bracket, self.threat, self.spec.flat)
        if found.why:
            self.reporter.note(found.why)
        if found.leg is not None:
            run.plan.append(found.leg)
        return found.leg is not None

    def _network_writer(self, number: int, model: LoadedModel, missing: list[str]) -> Callable[[], None] | None:
        """Return a function that stores the network after the attack; None where it is stored, or cannot be."""
        store, name = self.store, artefact_name(self.spec, number)
        if store is None or is_stored(store, name):
            return None
        with self._may_fail(_NOT_STORED, missing):
            program = exported(model)
            return lambda: write_network(store, name, model, program)
        return None

    @contextmanager
    def _may_fail(self, consequence: str, missing: list[str]) -> Generator[None]:
        """Something that comes after the record: where it fails, that is said and noted, and the run goes on."""
        try:
            yield
        except Exception as error:  # a user's network, torch's exporter, a disk: each has errors of its own
            missing.append(f"{consequence}: {_said(error)}")
            self.reporter.note(missing[-1])

    def _checks(self, run: ModelRun, clean: Tensor) -> Checks:
        """Look for what speaks for an attack that failed rather than a model that held."""
        search, progress = run.search, run.progress
        answers = check_answers(search.model, self.data, self.slots, clean)
        beyond = check_unbounded(search, self.slots)
        proven = int(search.bracket.certified(self.threat.largest).sum())
        rerun = Rerun(search, self.spec, run.plan, self.slots)
        wins = weaker_wins(progress.legs, progress.notes, proven, rerun)
        if beyond.leg is not None:
            progress.legs.append(beyond.leg)
        spent = SpentRecord(
            forwards=beyond.spent.forwards + rerun.spent.forwards,
            backwards=beyond.spent.backwards + rerun.spent.backwards,
            seconds=round(beyond.spent.seconds + rerun.spent.seconds, 3),
        )
        return Checks([answers, beyond.notes], spent, wins)

    def _contradictions(self, run: ModelRun) -> None:
        """An adversarial example inside a certified radius is a defect of robcert: stop, and keep both witnesses."""
        bracket = run.search.bracket
        against = bracket.contradictions()
        if not against:
            return
        where = "nothing was stored"
        if self.store:
            name = f"contradiction-{artefact_name(self.spec, run.number)}.safetensors"
            write_contradiction(self.store, name, run.search, against, run.attempt)
            where = f"both witnesses are in {self.store.directory / name}"
        first = against[0]
        raise EvaluationError(
            f"{run.search.model.name}: {len(against)} verified adversarial examples lie inside certified radii (image "
            f"{int(self.data.index[first])}: distance {float(bracket.distance[first]):.9g}, certified "
            f"{float(bracket.radius[first]):.9g}); {where}",
            "This is a defect of robcert: please report it with the run directory",
        )

    def _leg(self, run: ModelRun, networks: Networks, k: int) -> tuple[LegRecord, dict[str, list[int]], str | None]:
        plan, progress, bracket = run.plan[k], run.progress, run.search.bracket
        snapshot, progress.snapshot = progress.snapshot, None
        # Not from the bracket: what this leg found before it was interrupted is newly broken by this leg.
        standing = summary.as_list(progress.legs[-1].attacked_correct) if progress.legs else run.before_attacks
        leg = StagedLeg(
            replace(run.search, seed=seed_of(self.spec, k)),
            networks,
            plan,
            build(plan, self.threat.norm, self.spec.options),
            self.width,
            self.reporter,
            snapshot,
        )
        saved = time.monotonic()

        def synchronised(running: Stage) -> None:
            nonlocal saved
            stop = self.interrupted()
            reason = self._seen_enough(bracket) if running.remaining else None
            due = stop or reason is not None or time.monotonic() - saved >= self.execution.checkpoint_seconds
            if self.store and running.remaining and due:
                self.store.checkpoint(run.number, k, bracket, leg.done.with_stage(running))
                saved = time.monotonic()
            if stop and running.remaining:
                kept = f"all work is saved in {self.store.directory}" if self.store else "nothing was kept"
                raise Interrupted(
                    f"interrupted during {plan} of {run.search.model.name}; {kept}",
                    "Run the same command again to go on",
                )
            self.reporter.synchronised(running)
            run.told.synchronised(running)
            if reason is not None:
                raise Stopped(reason)

        stopped: str | None = None
        try:
            leg.run(synchronised)
        except Stopped as end:
            stopped = end.reason
        opened = [len(positions) for positions in leg.done.open]
        correct, spent = summary.attacked_correct(bracket, self.threat), leg.done.spent
        record = LegRecord(
            attack=plan.attack,
            iterations=leg.attack.iterations,
            restarts=plan.restarts,
            entered=len(leg.done.entered),
            attacked_correct=summary.scalar_or_list(correct),
            newly_broken=summary.scalar_or_list([a - b for a, b in zip(standing, correct, strict=True)]),
            interval=summary.leg_interval(correct, len(self.data)),
            forwards=spent.forwards,
            backwards=spent.backwards,
            seconds=round(spent.seconds, 3),
            stopped=stopped is not None,
            finished=leg.finished if stopped is not None else None,
            open=None if opened == [len(leg.done.entered)] else summary.scalar_or_list(opened),
        )
        return record, leg.done.notes(bracket, self.threat.largest), stopped

    def _seen_enough(self, bracket: Bracket) -> str | None:
        return None if self.execution.enough is None else self.execution.enough(bracket)


def _planned(leg: LegRecord) -> LegPlan:
    return LegPlan(leg.attack, leg.iterations, leg.restarts)


def _said(error: Exception) -> str:
    if isinstance(error, RobcertError):
        return error.found
    return network_fault(error).found if raised_by_network(error) else first_line(error)
