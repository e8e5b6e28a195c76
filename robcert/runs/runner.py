"""One run in progress: a model through its certificates, the legs of the plan, and the checks after them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from robcert.accel.batch_size import tune_batch_size
from robcert.accel.layout import LAYOUTS, faster_layout, layout_of
from robcert.accel.precision import PRECISIONS, Lowered, search_network
from robcert.accel.stepper import Networks
from robcert.bracket import Bracket
from robcert.errors import EvaluationError, Interrupted, RobcertError, first_line, network_fault, raised_by_network
from robcert.runs import summary
from robcert.runs.checks import check_answers, check_unbounded
from robcert.runs.contests import Rerun, contests
from robcert.runs.early import Enough, Stopped
from robcert.runs.images import clean_logits
from robcert.runs.legs import StagedLeg
from robcert.runs.plan import LegPlan, build
from robcert.runs.products import (
    exported,
    is_stored,
    product_name,
    write_contradiction,
    write_examples,
    write_network,
)
from robcert.runs.proof import Attempt, prove, verify_counterexamples
from robcert.runs.record import LegRecord, ModelRecord, RunSpec, SpentRecord
from robcert.runs.reporter import Reporter
from robcert.runs.signs import Contest
from robcert.runs.store import Progress, RunStore
from robcert.search.expectation import averaged, single_draw
from robcert.search.stage import Stage
from robcert.types import Batch, Dataset, LoadedModel, Threat

_NOT_STORED = "the network is not stored beside its adversarial examples"


class Runner:
    """One run in progress."""

    def __init__(
        self,
        data: Dataset,
        spec: RunSpec,
        threat: Threat,
        plan: list[LegPlan],
        store: RunStore | None,
        reporter: Reporter,
        slots: int,
        widen: bool,
        checkpoint_seconds: float,
        interrupted: Callable[[], bool],
    ) -> None:
        self.data, self.spec, self.threat, self.plan = data, spec, threat, plan
        self.store, self.reporter = store, reporter
        self.checkpoint_seconds, self.interrupted = checkpoint_seconds, interrupted
        self.images = Batch(data.x, data.y, data.index)
        self.slots, self.width = slots, slots
        self.widen = widen
        self.enough: Enough | None = None
        self.before_attacks: list[int] = []
        self.search: Lowered | None = None

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
        model = averaged(model, self.spec.eot)
        clean = clean_logits(model, self.data, self.slots)
        bracket = Bracket(self.data.index, clean.argmax(dim=1) != self.data.y.cpu())
        progress = self.store.progress(number, bracket) if self.store else Progress()
        attempt = prove(self.spec.certify, single_draw(model), self.data, self.threat, bracket)
        certificate = Bracket(bracket.index, bracket.wrong)
        verify_counterexamples(attempt, model, self.data, self.threat, certificate, self.slots)
        if not progress.legs:
            for position, example in certificate.found().items():
                bracket.update(position, example)
        natural = int((~bracket.wrong).sum())
        self.before_attacks = summary.attacked_correct(certificate, self.threat)
        self._contradictions(number, model, bracket, attempt)
        self.reporter.model(model.name, natural, len(self.data), len(progress.legs))
        self.search = None

        def summarized(
            notes: list[dict[str, list[int]]],
            stopped: str | None,
            beside: SpentRecord | None = None,
            beaten: Sequence[Contest] = (),
        ) -> ModelRecord:
            return summary.summarize(
                model,
                self.data,
                self.threat,
                bracket,
                attempt,
                progress.legs,
                notes,
                self.spec.flat,
                stopped,
                beaten,
                [natural - left for left in self.before_attacks],
            ).model_copy(
                update={"search_precision": self._searched(number, self.search), "checks": beside or SpentRecord()}
            )

        missing: list[str] = []
        store_network = self._network_writer(number, single_draw(model), missing)
        try:
            stopped = self._legs(number, model, bracket, progress, attempt)
        except Interrupted:
            raise
        except Exception as error:
            if progress.legs:  # they were paid for
                reason = f"leg {len(progress.legs) + 1} of {len(self.plan)} could not be done: {_said(error)}"
                known(summarized(progress.notes, reason))
            raise
        record = summarized(progress.notes, stopped)
        known(record)
        if stopped is None:
            with self._may_fail("the checks after the attack were not done", missing):
                more, beside, beaten = self._checks(model, clean, bracket, progress)
                record = summarized([*progress.notes, *more], None, beside, beaten)
        if self.store:
            name = product_name(self.spec, number)
            with self._may_fail("the adversarial examples are not stored", missing):
                write_examples(self.store, name, model, self.data, self.threat, record, bracket)
            if store_network is not None:
                with self._may_fail(_NOT_STORED, missing):
                    store_network()
        with self._may_fail("the record lacks what came after the attack", missing):
            known(record.model_copy(update={"missing": missing}))
        return record.model_copy(update={"missing": missing})

    def _legs(
        self,
        number: int,
        model: LoadedModel,
        bracket: Bracket,
        progress: Progress,
        attempt: Attempt,
    ) -> str | None:
        """Run the legs that are left; why they were ended early, or None."""
        networks: Networks | None = None
        for k in range(len(progress.legs), len(self.plan)):
            # A leg that was interrupted is taken up first, so that its cost is in the record.
            if progress.snapshot is None and (stopped := self._seen_enough(bracket)) is not None:
                return stopped
            if networks is None:
                networks = self._networks(number, model)
                self.search = networks.low
                self.width = self._width(number, networks.low or networks.exact)
            record, signs, stopped = self._leg(number, model, networks, k, bracket, progress)
            self._contradictions(number, model, bracket, attempt)
            progress.legs.append(record)
            progress.notes.append(signs)
            self.reporter.leg_done(record)
            if stopped is not None:
                return stopped
            if self.store:
                self.store.finish_leg(number, k, bracket, record, signs)
        return None

    def _network_writer(self, number: int, model: LoadedModel, missing: list[str]) -> Callable[[], None] | None:
        """What stores the network once the attack has ended; that it cannot be stored is said before the first leg."""
        store, name = self.store, product_name(self.spec, number)
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

    def _checks(
        self, model: LoadedModel, clean: Tensor, bracket: Bracket, progress: Progress
    ) -> tuple[list[dict[str, list[int]]], SpentRecord, list[Contest]]:
        """What speaks for an attack that failed rather than a model that held, and what an attack beside took."""
        answers = check_answers(model, self.data, self.slots, clean)
        beyond = check_unbounded(model, self.images, self.threat, bracket, self.spec.seed, self.slots)
        proven = int(bracket.certified(self.threat.largest).sum())
        rerun = Rerun(model, self.images, self.threat, self.plan, self.spec, self.slots)
        beaten = contests(progress.legs, progress.notes, proven, rerun)
        if beyond.leg is not None:
            progress.legs.append(beyond.leg)
        beside = SpentRecord(
            forwards=beyond.spent.forwards + rerun.spent.forwards,
            backwards=beyond.spent.backwards + rerun.spent.backwards,
            seconds=round(beyond.spent.seconds + rerun.spent.seconds, 3),
        )
        return [answers, beyond.notes], beside, beaten

    def _networks(self, number: int, model: LoadedModel) -> Networks:
        """Return what the search calls: the network in the faster memory format, and a copy in bfloat16 or None."""
        # float32 is the user's way to leave nothing to the clock.
        if self.spec.search_precision == "float32" or model.no_gradient:
            return Networks(model.module)
        # A run that goes on keeps what was found, as it keeps its number of threads.
        sample, place = self.data.x[: self.slots], f"layout {number}"
        known = self.store.setting(place, None) if self.store else None
        layout = faster_layout(model.module, sample, known if known in LAYOUTS else None)
        key, asked = f"search precision {number}", self.spec.search_precision
        kept = self.store.setting(key, None) if self.store and asked == "auto" else None
        if kept in PRECISIONS:
            asked = kept
        search = search_network(model.module, sample, asked, layout)
        if self.store:
            self.store.setting(place, layout_of(layout))
            self.store.setting(key, "float32" if search is None else "bfloat16")
        return Networks(layout, search)

    def _searched(self, number: int, search: Lowered | None) -> str:
        """What was searched in; by a run that found nothing left to search, what it was before."""
        before = self.store.setting(f"search precision {number}", None) if self.store and search is None else None
        return before or ("float32" if search is None else "bfloat16")

    def _width(self, number: int, searched: nn.Module) -> int:
        """How many images the legs hold at once."""
        if not self.widen or self.spec.search_precision == "float32":
            return self.slots
        place = f"slots {number}"
        known = self.store.setting(place, None) if self.store else None
        width = int(known) if known else tune_batch_size(searched, self.data.x[: self.slots], self.slots)
        if self.store:
            self.store.setting(place, str(width))
        return width

    def _contradictions(self, number: int, model: LoadedModel, bracket: Bracket, attempt: Attempt) -> None:
        """An adversarial example inside a certified radius is a defect of robcert: stop, and keep both witnesses."""
        against = bracket.contradictions()
        if not against:
            return
        where = "nothing was stored"
        if self.store:
            name = f"contradiction-{product_name(self.spec, number)}.safetensors"
            write_contradiction(self.store, name, self.data, self.threat, against, bracket, attempt)
            where = f"both witnesses are in {self.store.directory / name}"
        first = against[0]
        raise EvaluationError(
            f"{model.name}: {len(against)} verified adversarial examples lie inside certified radii (image "
            f"{int(self.data.index[first])}: distance {float(bracket.distance[first]):.9g}, certified "
            f"{float(bracket.radius[first]):.9g}); {where}",
            "This is a defect of robcert: please report it with the run directory",
        )

    def _leg(
        self,
        number: int,
        model: LoadedModel,
        networks: Networks,
        k: int,
        bracket: Bracket,
        progress: Progress,
    ) -> tuple[LegRecord, dict[str, list[int]], str | None]:
        plan, snapshot, progress.snapshot = self.plan[k], progress.snapshot, None
        # Not from the bracket: what this leg found before it was interrupted is newly broken by this leg.
        standing = summary.as_list(progress.legs[-1].attacked_correct) if progress.legs else self.before_attacks
        leg = StagedLeg(
            model,
            networks,
            self.images,
            plan,
            build(plan, self.threat.norm, self.spec.options),
            self.threat,
            self.spec.goal,
            self.spec.seed + 7919 * k,  # each leg draws its own random starts
            bracket,
            self.width,
            self.reporter,
            snapshot,
        )
        saved = time.monotonic()

        def look(running: Stage) -> None:
            nonlocal saved
            stop = self.interrupted()
            reason = self._seen_enough(bracket) if running.remaining else None
            due = stop or reason is not None or time.monotonic() - saved >= self.checkpoint_seconds
            if self.store and running.remaining and due:
                self.store.checkpoint(number, k, bracket, leg.done.with_leg(running))
                saved = time.monotonic()
            if stop and running.remaining:
                kept = f"all work is saved in {self.store.directory}" if self.store else "nothing was kept"
                raise Interrupted(
                    f"interrupted during {plan} of {model.name}; {kept}",
                    "Run the same command again to go on",
                )
            self.reporter.look(running)
            if reason is not None:
                raise Stopped(reason)

        stopped: str | None = None
        try:
            leg.run(look)
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
        return None if self.enough is None else self.enough(bracket)


def _said(error: Exception) -> str:
    if isinstance(error, RobcertError):
        return error.found
    return network_fault(error).found if raised_by_network(error) else first_line(error)
