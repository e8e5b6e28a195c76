"""Records: the published schema, one budget and several, and what the numbers must add up to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from toys import toy

import robcert
from robcert.errors import EvaluationError, UsageError
from robcert.network import from_module, load_model
from robcert.runs.record import RunRecord, SpentRecord, schema
from robcert.types import Dataset, LoadedModel, Threat

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "run-1.json"


def run(model: LoadedModel, data: Dataset, *eps: float, **options: Any) -> tuple[RunRecord, dict[str, Any]]:
    """A record, checked against the published schema; without a certificate unless one is asked for."""
    given: dict[str, Any] = {"certify": "none", "plan": "cw:10,100"} | options
    record = robcert.attack(model, data, Threat(given.pop("norm", "l2"), eps), **given)
    content = json.loads(record.to_json())
    jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text())).validate(content)
    return record, content


def test_the_published_schema_is_that_of_the_code() -> None:
    assert PUBLISHED.read_text() == schema(), "python -m robcert.runs.record > docs/schemas/run-1.json"
    published = json.loads(PUBLISHED.read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    assert {"schema", "spec_sha256", "threat", "data", "models", "versions", "device"} <= set(published["properties"])


def test_the_schema_refuses_what_is_no_record(model: LoadedModel, data: Dataset) -> None:
    _, content = run(model, data, 0.3, plan="pgd:5")
    check = jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text()))
    for spoil in (
        lambda c: c.pop("threat"),
        lambda c: c.update(schema="robcert.run/2"),
        lambda c: c["models"][0].update(extra=1),
        lambda c: c["models"][0]["images"][0].update(status="maybe"),
    ):
        spoiled = json.loads(json.dumps(content))
        spoil(spoiled)
        assert not check.is_valid(spoiled)


def test_one_budget_gives_single_values(model: LoadedModel, data: Dataset) -> None:
    record, content = run(model, data, 0.5, plan="cw:10,100,pgd:10x2")
    assert content["schema"] == "robcert.run/1"
    (one,) = content["models"]
    images, verdicts = one["images"], one["verdicts"]
    assert [image["index"] for image in images] == data.index.tolist()
    for status in ("wrong", "broken", "certified", "open"):
        assert verdicts[status] == sum(image["status"] == status for image in images)
    assert sum(verdicts.values()) == one["n"] == 40
    assert one["natural_correct"] == 40 - verdicts["wrong"]
    standing = one["natural_correct"]
    for leg in one["legs"]:
        assert leg["entered"] == standing
        standing -= leg["newly_broken"]
        assert leg["attacked_correct"] == standing
        low, high = leg["interval"]
        assert low <= standing / 40 <= high
    assert standing == verdicts["open"]
    assert [(leg["attack"], leg["iterations"], leg["restarts"]) for leg in one["legs"]] == [
        ("cw", 10, 1), ("cw", 100, 1), ("pgd", 10, 2),
    ]  # fmt: skip
    for image in images:
        if image["status"] == "broken":
            assert 0 < image["distance"] <= 0.5
            assert image["adversarial_label"] != image["label"]
            assert image["iteration"] >= 1
        elif image["status"] == "wrong":
            assert image["distance"] == 0
        else:
            assert image["distance"] is None or image["distance"] > 0.5
    assert record.goal == "decide"
    assert verdicts["broken"] > 0
    assert verdicts["open"] > 0


def test_several_budgets_give_lists_in_their_order(model: LoadedModel, data: Dataset) -> None:
    record, content = run(model, data, 1.0, 0.2, 0.5)
    assert content["threat"]["eps"] == [0.2, 0.5, 1.0]
    assert record.goal == "minimize"
    (one,) = content["models"]
    for leg in one["legs"]:
        assert len(leg["attacked_correct"]) == len(leg["newly_broken"]) == len(leg["interval"]) == 3
        assert leg["attacked_correct"] == sorted(leg["attacked_correct"], reverse=True)
    for image in one["images"]:
        if image["status"][0] == "wrong":
            assert image["status"] == ["wrong"] * 3
            continue
        distance = float("inf") if image["distance"] is None else image["distance"]
        assert image["status"] == ["broken" if distance <= eps else "open" for eps in (0.2, 0.5, 1.0)]
    for k in range(3):
        assert sum(one["verdicts"][s][k] for s in one["verdicts"]) == 40
    quantiles = one["distance"]
    assert quantiles["q25"] <= quantiles["median"] <= quantiles["q75"]


@pytest.mark.parametrize("eps", [(0.5,), (0.2, 0.5, 1.0)])
def test_certified_images_are_not_attacked(model: LoadedModel, data: Dataset, eps: tuple[float, ...]) -> None:
    """Certified exactly where the radius exceeds eps, and no example lies inside a radius."""
    _, content = run(model, data, *eps, certify="gap")
    plain, _ = run(model, data, *eps)
    (one,) = content["models"]
    seen: set[str] = set()
    for image, without in zip(one["images"], plain.models[0].images, strict=True):
        statuses, attacked = ([i] if isinstance(i, str) else i for i in (image["status"], without.status))
        for status, other, budget in zip(statuses, attacked, eps, strict=True):
            seen.add(status)
            assert (status == "certified") == (image["radius"] > budget)
            assert status == other or (status, other) == ("certified", "open")
        if image["distance"] is not None and "wrong" not in statuses:
            assert image["radius"] <= image["distance"]
    assert {"broken", "certified"} <= seen
    assert one["legs"][0]["entered"] < plain.models[0].legs[0].entered


def test_several_budgets_and_decide_do_not_go_together(model: LoadedModel, data: Dataset) -> None:
    with pytest.raises(UsageError, match="several eps"):
        robcert.attack(model, data, Threat("l2", (0.1, 0.2)), "pgd:5", goal="decide")


def test_minimize_agrees_with_the_closed_form(model: LoadedModel, data: Dataset) -> None:
    """A linear classifier in a box that hardly binds: no distance is below the exact one, most are close to it."""
    from toys import exact_distance

    record, _ = run(model, data, 0.5, plan="cw:100", goal="minimize")
    exact = exact_distance(model.module.head, data.x.flatten(1), data.y, "l2")  # type: ignore[arg-type]
    ratios = [
        image.distance / float(exact[k])
        for k, image in enumerate(record.models[0].images)
        if image.status != "wrong" and image.distance is not None
    ]
    assert len(ratios) > 30
    assert min(ratios) >= 1 - model.rounding


def test_the_products_need_no_robcert(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    record, _ = run(model, data, 0.4, run=tmp_path / "r")
    images = record.models[0].images
    with safe_open(tmp_path / "r" / "adversarials-prototypes.safetensors", framework="pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    broken = [image for image in images if image.status == "broken"]
    assert kept["index"].tolist() == [image.index for image in broken]
    assert kept["distance"].tolist() == [image.distance for image in broken]
    assert kept["adversarial_label"].tolist() == [image.adversarial_label for image in broken]
    # A failed image is an explicit mask with distance inf, never a black or unperturbed image.
    assert kept["all_index"].tolist() == data.index.tolist()
    assert kept["all_found"].tolist() == [int(image.status == "broken") for image in images]
    assert kept["all_distance"].isinf().tolist() == [image.status != "broken" for image in images]
    assert kept["adversarial"].shape == kept["x"].shape == (len(broken), 1, 8, 8)
    moved = (kept["adversarial"].double() - kept["x"].double()).flatten(1).norm(dim=1)
    assert bool((moved > 0).all())
    assert bool((moved <= 0.4).all())
    network = torch.export.load(tmp_path / "r" / "network-prototypes.pt2").module()
    assert network(kept["adversarial"]).argmax(1).tolist() == kept["adversarial_label"].tolist()


def test_nothing_broken_leaves_empty_files(model: LoadedModel, data: Dataset, tmp_path: Path) -> None:
    run(model, data, 1e-5, plan="pgd:2", run=tmp_path / "r")
    with safe_open(tmp_path / "r" / "adversarials-prototypes.safetensors", framework="pt") as file:
        assert file.get_tensor("adversarial").shape == (0, 1, 8, 8)
        assert file.get_tensor("all_found").sum() == 0
        assert bool(file.get_tensor("all_distance").isinf().all())


class NaN(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x), 10), float("nan")) + 0 * x.flatten(1)[:, :1]


def test_a_model_that_answers_nan_is_refused(data: Dataset) -> None:
    with pytest.raises(EvaluationError, match="answers NaN or infinity to 40 of 40 clean images") as caught:
        robcert.attack(toy(NaN(), (1, 8, 8), 10), data, Threat("l2", (0.5,)), "pgd:5")
    assert caught.value.do


class Flat(nn.Module):
    """Always right about class 0 and without a gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.eye(10)[0].expand(len(x), 10) + 0 * x.flatten(1)[:, :1]


def test_warnings_name_the_images(data: Dataset) -> None:
    zeros = replace(data, y=torch.zeros_like(data.y))
    record = robcert.attack(toy(Flat(), (1, 8, 8), 10), zeros, Threat("l2", (0.5,)), "pgd:10", certify="none")
    (warning,) = [w for w in record.models[0].warnings if w.name == "zero-gradients"]
    assert sorted(warning.images) == sorted(data.index.tolist())
    assert warning.message
    assert warning.advice


def test_shape_and_classes_must_fit(model: LoadedModel, data: Dataset) -> None:
    with pytest.raises(UsageError, match="takes inputs of shape"):
        robcert.attack(model, replace(data, x=torch.rand(40, 1, 9, 9)), Threat("l2", (0.5,)), "pgd:5")
    with pytest.raises(UsageError, match="has the label 12"):
        robcert.attack(model, replace(data, y=torch.full((40,), 12)), Threat("l2", (0.5,)), "pgd:5")
    with pytest.raises(UsageError, match="no images"):
        empty = replace(data, x=data.x[:0], y=data.y[:0], index=data.index[:0])
        robcert.attack(model, empty, Threat("l2", (0.5,)), "pgd:5")


@pytest.mark.parametrize("eps", [(0.0,), (-1.0,), (float("nan"),), (float("inf"),), ()])
def test_budgets(eps: tuple[float, ...]) -> None:
    with pytest.raises(UsageError):
        Threat("l2", eps)


def test_the_box_of_the_threat_is_that_of_model_and_data(model: LoadedModel, data: Dataset) -> None:
    """Images in [-1, 1] that are clamped to [0, 1] are other images, and none of them falls."""
    wide = replace(data, x=2 * data.x - 1, box=(-1.0, 1.0))
    for one, images in ((model, wide), (replace(model, box=(-1.0, 1.0)), data)):
        with pytest.raises(UsageError, match=r"lie in \[-1, 1\], but the threat keeps an adversary to \[0, 1\]"):
            robcert.attack(one, images, Threat("linf", (0.1,)), "pgd:2")
    with pytest.raises(EvaluationError, match="entries from -1 to 1"):
        robcert.attack(model, replace(data, x=2 * data.x - 1), Threat("linf", (0.1,)), "pgd:2")


def test_a_finished_run_that_is_asked_again_keeps_its_record(data: Dataset, tmp_path: Path) -> None:
    options: dict[str, Any] = {"certify": "none", "run": tmp_path / "run", "search_precision": "bfloat16"}
    first, again = (
        robcert.attack(load_model("digits-plain"), data, Threat("linf", (0.05,)), "pgd:10", **options) for _ in range(2)
    )
    assert first.models[0].search_precision == "bfloat16"
    one, other = (record.models[0].model_copy(update={"checks": SpentRecord()}) for record in (first, again))
    assert one == other


class Through(nn.Module):
    """A linear network behind a function that is in none of its weights."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.head = function, nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(x.flatten(1)))


def test_a_run_belongs_to_a_network_and_not_to_its_file(data: Dataset, tmp_path: Path) -> None:
    """The same weights behind another function, normalisation or layer are another network."""
    loaded = [
        *(from_module(Through(function), (1, 8, 8)) for function in (torch.tanh, torch.relu, lambda x: x * x)),
        *(from_module(Through(torch.tanh), (1, 8, 8), mean=mean, std=(0.5,)) for mean in ((0.0,), (0.5,))),
        *(
            from_module(nn.Sequential(nn.Flatten(), layer, Through(torch.tanh)), (1, 8, 8))
            for layer in (nn.GELU(), nn.SiLU())
        ),
        *(load_model("digits-plain", **more) for more in ({}, {"mean": (0.5,), "std": (0.5,)})),
    ]
    assert len({one.source.network for one in loaded}) == len(loaded)
    assert from_module(Through(torch.tanh), (1, 8, 8)).source.network == loaded[0].source.network
    assert load_model("digits-plain").source.network == loaded[-2].source.network
    options: dict[str, Any] = {"certify": "none", "run": tmp_path / "run"}
    threat = Threat("linf", (0.05,))
    robcert.attack(loaded[0], data, threat, "pgd:2", **options)
    with pytest.raises(UsageError, match="another specification"):
        robcert.attack(loaded[1], data, threat, "pgd:2", **options)


def test_the_digest_of_a_network_is_the_same_in_another_process() -> None:
    code = "from robcert.network import load_model; print(load_model('digits-l2nnn').source.network)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == load_model("digits-l2nnn").source.network
