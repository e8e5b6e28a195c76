"""Several workers find what one finds, share the work out, and go on from any look."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import known

from robcert import attack
from robcert.attacks import attacks
from robcert.bracket import Bracket
from robcert.data import load_dataset
from robcert.engine.crew import Crew
from robcert.engine.gpus import gpus
from robcert.engine.leg import Leg
from robcert.engine.snapshot import Snapshot
from robcert.runs.reporter import Silent
from robcert.types import Batch, LoadedModel, Threat


@pytest.fixture(scope="module")
def images() -> Batch:
    data = load_dataset("digits", n=60)
    return Batch(data.x, data.y, data.index)


def crew(
    model: LoadedModel,
    images: Batch,
    bracket: Bracket,
    workers: int,
    name: str = "pgd",
    goal: Any = "decide",
    restarts: int = 2,
    slots: int = 16,
    snapshot: Snapshot | None = None,
    **options: Any,
) -> Crew:
    chosen = attacks.get(name)(**options)
    threat = Threat("linf" if "linf" in chosen.norms and name != "cw" else "l2", (0.08 if name != "cw" else 0.4,))

    def leg(worker: int, share: list[int], part: Snapshot | None) -> Leg:
        return Leg(
            model, chosen, name, images, bracket, threat, goal, 0, share, restarts, slots, part
        )  # fmt: skip

    return Crew(leg, list(range(len(images))), restarts, workers, snapshot)


def assert_same_but_for_rounding(one: Bracket, other: Bracket) -> None:
    """The same images with the same attack, restart and class, at the same points but for the order of sums.

    Whoever shares the images out in another way makes batches of other sizes, and on some CPUs a matrix product of
    16 rows adds in another order than one of 8.
    """
    theirs = other.found()
    assert one.found().keys() == theirs.keys()
    for k, mine in one.found().items():
        how, their_how = mine.provenance, theirs[k].provenance
        assert (how.attack, how.restart, mine.label) == (their_how.attack, their_how.restart, theirs[k].label)
        torch.testing.assert_close(mine.point, theirs[k].point, rtol=0, atol=1e-4)
    torch.testing.assert_close(one.distance, other.distance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "goal", "options"),
    [
        ("pgd", "decide", {"iterations": 20}),
        ("pgd", "minimize", {"iterations": 10, "search_steps": 4}),
        ("cw", "decide", {"iterations": 20, "search_steps": 3}),
        ("cw", "minimize", {"iterations": 20, "search_steps": 3}),
        ("apgd-t", "decide", {"iterations": 20}),
        ("fab", "minimize", {"iterations": 10}),
    ],
)
def test_several_workers_find_what_one_finds(
    plain: LoadedModel, images: Batch, name: str, goal: Any, options: dict[str, Any]
) -> None:
    """An image has its own random stream, and stays with one worker."""
    results: list[Any] = []
    brackets: list[Bracket] = []
    for workers in (1, 2, 3):
        bracket = Bracket(images.index)
        one = crew(plain, images, bracket, workers, name, goal, restarts=1, **options)
        assert len(one.legs) == workers
        one.run()
        spent = one.spent
        results.append((spent.forwards, spent.backwards, one.sign("broke")))
        brackets.append(bracket)
        assert one.left == one.work == one.entered == 60
    assert results[0] == results[1] == results[2]
    for bracket in brackets[1:]:
        assert_same_but_for_rounding(brackets[0], bracket)
    assert bool((brackets[0].distance < 9).any())


def test_restarts_beside_one_another_break_the_same_images(plain: LoadedModel, images: Batch) -> None:
    """Which of them is first depends on how many run at once."""
    verdicts: list[list[bool]] = []
    for workers in (1, 2, 3):
        bracket = Bracket(images.index)
        one = crew(plain, images, bracket, workers, iterations=30, restarts=4, slots=24)
        one.run()
        assert one.left == one.work == 240
        assert one.entered == 60
        verdicts.append((bracket.distance <= 0.08).tolist())
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert 5 < sum(verdicts[0]) < 55


def test_a_snapshot_of_all_workers_continues_to_the_same_end(plain: LoadedModel, images: Batch) -> None:
    kept: list[tuple[Snapshot, Bracket]] = []

    def look(one: Crew) -> None:
        if one.remaining:
            snapshot = one.snapshot()
            tensors = {key: tensor.clone() for key, tensor in snapshot.tensors.items()}
            kept.append((Snapshot(tensors, json.loads(json.dumps(snapshot.meta))), copy.deepcopy(one.legs[0].bracket)))

    options: dict[str, Any] = {"name": "cw", "iterations": 20, "search_steps": 3, "slots": 8}
    whole = Bracket(images.index)
    first = crew(plain, images, whole, 2, **options)
    first.run(look)
    assert len(kept) > 10
    for snapshot, bracket in kept[:: len(kept) // 6]:
        again = crew(plain, images, bracket, 2, snapshot=snapshot, **options)
        again.run()
        assert known(bracket) == known(whole)
        assert (again.spent.forwards, again.spent.backwards) == (first.spent.forwards, first.spent.backwards)
        assert (again.entered, again.left, again.work) == (60, 120, 120)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_other_workers_take_over_what_some_began(plain: LoadedModel, images: Batch, workers: int) -> None:
    """Interrupted with two workers, gone on with one, two or four: the same end, and everybody has something to do."""
    options: dict[str, Any] = {"name": "cw", "iterations": 50, "search_steps": 3, "slots": 16, "restarts": 1}
    whole = Bracket(images.index)
    crew(plain, images, whole, 1, **options).run()

    class Enough(Exception):
        pass

    kept: list[Snapshot] = []

    def stop(one: Crew) -> None:
        kept.append(one.snapshot())
        if len(kept) == 4:
            raise Enough

    bracket = Bracket(images.index)
    with pytest.raises(Enough):
        crew(plain, images, bracket, 2, **options).run(stop)
    again = crew(plain, images, bracket, workers, snapshot=kept[-1], **options)
    assert len(again.legs) == max(2, workers)
    loads = [leg.slots.remaining for leg in again.legs]
    assert sum(loads) == again.remaining and max(loads) - min(loads) < 16
    again.run()
    assert_same_but_for_rounding(bracket, whole)
    assert again.left == again.work == 60


def test_nobody_idles_while_others_have_waiting_images(plain: LoadedModel, images: Batch) -> None:
    """The images of one worker all fall at once, those of the other never do."""
    bracket = Bracket(images.index)
    one = crew(plain, images, bracket, 2, "pgd", iterations=100, restarts=1, slots=8, abort_early=False)
    easy = one.legs[0]
    for position in [p for p, _ in easy.slots.queue]:
        easy.slots.withdraw(position)
        easy.left += 1
    shares: list[tuple[int, int]] = []
    one.run(lambda now: shares.append((now.legs[0].slots.remaining, now.legs[1].slots.remaining)))
    assert all(abs(a - b) <= 1 for a, b in shares if a + b > 16)
    assert one.left == 60


@pytest.mark.parametrize("plan", ["cw:20", "apgd-t:20x2"])
def test_devices_share_a_run(plain: LoadedModel, tmp_path: Path, plan: str) -> None:
    """Each with a copy of the network, one asked after the other; killed, the run goes on with them."""
    data = load_dataset("digits", n=60)
    threat = Threat("l2", (0.4,))

    def verdicts(record: Any) -> list[Any]:
        return [(image.status, image.distance) for image in record.models[0].images]

    options: dict[str, Any] = {"certify": "none", "batch_size": 16, "search_precision": "float32"}
    alone = attack(plain, data, threat, plan, **options)
    together = attack(plain, data, threat, plan, devices=("cpu", "cpu"), **options)
    expected = [(status, distance and pytest.approx(distance, rel=1e-4)) for status, distance in verdicts(alone)]
    assert verdicts(together) == expected
    assert 5 < sum(image.status == "broken" for image in together.models[0].images) < 55

    class Dies(Silent):
        looks = 0

        def look(self, crew: Crew) -> None:
            assert len(crew.legs) == 2
            assert crew.legs[0].model.module is not crew.legs[1].model.module
            self.looks += 1
            if self.looks == 3:
                raise RuntimeError("power cut")

    options |= {"devices": ("cpu", "cpu"), "run": tmp_path / "r"}
    with pytest.raises(RuntimeError, match="power"):
        attack(plain, data, threat, plan, reporter=Dies(), checkpoint_seconds=0.0, **options)
    assert verdicts(attack(plain, data, threat, plan, **options)) == expected


def test_cuda_is_all_gpus_and_a_number_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpus("cpu") == gpus("cuda:1") == ()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gpus("cuda") == (torch.device("cuda:0"), torch.device("cuda:1"))
    assert gpus("cuda:1") == ()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpus("cuda") == ()
