"""From a recipe file to a model on disk: read, train, measure, write."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from robcert.data import load_dataset
from robcert.errors import UsageError
from robcert.files import write_text
from robcert.network import Card, save_model
from robcert.network.card import option_fault, write_toml
from robcert.network.device import usable_device
from robcert.nn.convolution import UndividedConv2d
from robcert.training.adversary import Adversary
from robcert.training.checkpoint import Checkpoint, Epoch
from robcert.training.curves import curves_csv, curves_svg
from robcert.training.loop import fit
from robcert.training.measure import measure
from robcert.training.recipe import Recipe, read_recipe
from robcert.types import Dataset, Threat

WEIGHTS = "weights.safetensors"
CARD = "model.toml"
RESULTS = "RESULTS.md"
CURVES = "curves"
UNFINISHED = ".training.pt"
_SUFFIXES = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class Trained:
    """The result of a training: the file of the weights, and the card that is in it."""

    path: Path
    card: Card


def train(
    recipe: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    device: str = "auto",
    threads: int | None = None,
    report: Callable[[Epoch], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Trained:
    """Train the model of a recipe and write it; each file is renamed into place when it is whole.

    While it trains it keeps ``.training.pt`` beside the output, from which the same call goes on after an
    interruption and ends with the same weights.

    Args:
        recipe: a ``recipe.toml``, or the folder that holds one.
        output: a folder (``weights.safetensors``, ``model.toml``, ``RESULTS.md`` and the learning curves
            ``curves.csv`` and ``curves.svg`` are written into it), or one file that ends in .safetensors, .pt or
            .pth (the card is inside); default: the folder of the recipe.
        data_dir: the folder of the data sets.
        download: whether missing data may be downloaded.
        device: "auto" (CUDA if there is any), or a device of torch.
        threads: CPU threads, in place of the recipe's.
        report: called after each epoch.
        tell: called with what was decided in reading the data, and with a budget that is too wide.

    Returns:
        The file of the weights, and the card that is in it.

    Raises:
        UsageError: the recipe, the output or the device cannot be used, or the data have one split only;
            found before anything is trained.
        EvaluationError: the data cannot be used, or the training diverged.
    """
    path = Path(recipe)
    plan = read_recipe(path)
    if threads is not None:
        plan = plan.model_copy(update={"threads": threads})
    target = Path(output) if output is not None else (path if path.is_dir() else path.parent)
    return train_recipe(plan, target, data_dir=data_dir, download=download, device=device, report=report, tell=tell)


def train_recipe(
    plan: Recipe,
    output: Path,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    device: str = "auto",
    report: Callable[[Epoch], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Trained:
    """`train` for a recipe that is no file; the arguments and errors are the same."""
    target = _target(output)
    chosen = usable_device(device)
    data, test = (
        load_dataset(plan.data, split=split, data_dir=data_dir, download=download, class_order=plan.class_order)
        for split in ("train", "test")
    )
    for note in (*data.notes, *test.notes, _too_wide(plan, data)):
        if tell is not None and note:
            tell(note)
    if data.x.shape == test.x.shape and torch.equal(data.x, test.x):
        raise UsageError(
            f"the training images of {plan.data} are its test images, so no accuracy would mean anything",
            "Separate them: npz:FOLDER with train.npz and test.npz, or folder:FOLDER with train/ and test/.",
        )
    single = target.suffix in _SUFFIXES
    if not single:
        target.mkdir(parents=True, exist_ok=True)
    kept = target.with_name(f".{target.name}{UNFINISHED}") if single else target / UNFINISHED
    checkpoint = Checkpoint(kept, _fingerprint(plan, data, chosen))
    net = fit(plan, data, test, device=chosen, report=report, checkpoint=checkpoint)
    measured = measure(net, test, torch.device("cpu"))
    card = Card(
        name=plan.name,
        architecture=plan.architecture.name,
        options={k: v for k, v in plan.architecture.options.items() if not option_fault(k, v)},
        input_shape=data.shape,
        num_classes=len(data.classes),
        box=data.box,
        data=plan.data,
        description=plan.description,
        recipe=plan.model_dump(mode="json", exclude_none=True),
        results={
            "test_images": len(measured.correct),
            **measured.results(guarantee=_nonexpansive(plan, net)),
            **_held_out_results(plan, checkpoint.history),
        },
    )
    if single:
        written = save_model(net, card, target)
    else:
        written = save_model(net, card, target / WEIGHTS)
        write_toml(card, target / CARD)
        write_text(target / RESULTS, results_page(card))
        write_text(target / f"{CURVES}.csv", curves_csv(checkpoint.history))
        write_text(target / f"{CURVES}.svg", curves_svg(checkpoint.history, plan.name))
    checkpoint.remove()
    return Trained(written, card)


def _fingerprint(plan: Recipe, data: Dataset, device: torch.device) -> str:
    """Says which training it is: what decides its weights."""
    content = hashlib.sha256(data.x.numpy().tobytes() + data.y.numpy().tobytes())
    return f"{plan.model_dump_json()} {content.hexdigest()} {device} torch {torch.__version__}"


def _nonexpansive(plan: Recipe, net: nn.Module) -> bool:
    """Return whether half a confidence gap is a guarantee."""
    divided = not any(isinstance(layer, UndividedConv2d) for layer in net.modules())
    return plan.objective.nonexpansive and divided


def _held_out_results(plan: Recipe, history: list[Epoch]) -> dict[str, int | float]:
    """Return which epoch was kept and its loss on the images held out; nothing where none were."""
    if plan.held_out is None:
        return {}
    kept = history[-1]
    if plan.held_out.keep == "best":
        kept = next((epoch for epoch in reversed(history) if epoch.best), kept)
    assert kept.held_out_loss is not None
    return {"kept_epoch": kept.number, "held_out_loss": round(kept.held_out_loss, 6)}


def results_page(card: Card) -> str:
    """The RESULTS.md of a model; the same training gives the same page."""
    rows: list[tuple[str, str]] = []
    for key, value in card.results.items():
        label, percent = _label(key)
        number = f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        rows.append((label, f"{100 * value:.1f} %" if percent else number))
    table = "\n".join(f"| {label} | {value} |" for label, value in rows)
    note = (
        "\nEvery logit is nonexpansive in l2, so a right answer with confidence gap g holds within g / 2.\n"
        if "median_half_gap" in card.results
        else ""
    )
    return (
        f"# {card.name}\n\n{card.description}\n\nWritten by `robcert train models/{card.name}/recipe.toml`."
        f"\n\n| on the test images of {card.data} | |\n| --- | --- |\n{table}\n{note}"
    )


def _label(key: str) -> tuple[str, bool]:
    """Return the name of a result in the table, and whether it is a share."""
    prefix = "half_gap_above_"
    if key.startswith(prefix):
        return f"right with g/2 above {key.removeprefix(prefix)}", True
    names = {
        "natural_accuracy": ("natural accuracy", True),
        "mean_gap": ("average confidence gap g", False),
        "median_half_gap": ("median of g/2 (0 where wrong)", False),
        "test_images": ("test images", False),
        "kept_epoch": ("epoch whose weights are kept", False),
        "held_out_loss": ("cross-entropy on the images held out", False),
    }
    return names.get(key, (key.replace("_", " "), False))


def _too_wide(plan: Recipe, data: Dataset) -> str:
    """A sentence about the budget of an adversary of the training, where it reaches over half of the box."""
    adversary = getattr(plan.objective, "adversary", plan.objective)
    if not isinstance(adversary, Adversary):
        return ""
    return Threat(adversary.norm, (adversary.eps,), data.box).too_wide(data.shape)


def _target(output: Path) -> Path:
    """The folder or file to write, checked before hours are spent on training."""
    known = output.suffix in _SUFFIXES and not output.is_dir()
    if output.suffix and not known and not output.is_dir() and output.name not in ("", ".", ".."):
        raise UsageError(
            f"the output {output} ends in {output.suffix!r}, expected a folder, .safetensors, .pt or .pth",
            "e.g. --output model.safetensors",
        )
    folder = output.parent if known else output
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UsageError(f"the folder {existing} cannot be written", "Choose another one with --output.")
    if known:
        folder.mkdir(parents=True, exist_ok=True)
    return output
