"""The training loop: from a recipe and a data set to a network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

import torch
from torch import Tensor, nn

from robcert.accel.allocator import keep_memory
from robcert.errors import EvaluationError, UsageError
from robcert.nn import architectures
from robcert.progress import working
from robcert.training.checkpoint import Checkpoint, Epoch, Parts
from robcert.training.context import TrainingContext
from robcert.training.held_out import BestOnHeldOut, split
from robcert.training.measure import measure
from robcert.training.optimiser import ScheduledOptimiser
from robcert.training.precision import Mixed
from robcert.training.recipe import Augmentation, Recipe
from robcert.types import Dataset


def fit(
    recipe: Recipe,
    data: Dataset,
    test: Dataset,
    *,
    device: torch.device | None = None,
    report: Callable[[Epoch], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> nn.Module:
    """Trains the network of a recipe; nothing but the recipe, the data and the device decides its weights.

    The state of torch's global generator is the same afterwards. The test images are looked at for `Epoch`
    only: the weights of the last epoch are kept, or those that are best on images held out of the training images
    (`HeldOut`).

    Args:
        recipe: what to do.
        data: the training images.
        test: the images on which accuracy and gaps are reported.
        device: where; default: CUDA if there is any, else the CPU.
        report: called after each epoch.
        checkpoint: goes on from its file, where there is one, and keeps it while it trains.

    Returns:
        The network in eval mode on the CPU, with plain layers.

    Raises:
        UsageError: unknown architecture, or options that it does not take; a regulariser that does not fit it; more
            images to hold out than there are.
        EvaluationError: the loss became NaN or infinite.
    """
    keep_memory()
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with _seeded(recipe, device):
        net = build(recipe, data.shape, len(data.classes)).to(device)
        generator = torch.Generator().manual_seed(recipe.seed)
        held_out = None
        if recipe.held_out is not None:
            data, kept_back = split(data, recipe.held_out)
            held_out = BestOnHeldOut(recipe.held_out, kept_back, device)
        batches = -(-len(data) // recipe.batch)
        context = TrainingContext(len(data.classes), recipe.epochs, data.box, device, generator, data.shape, batches)
        objective = recipe.objective.build(context)
        objective.prepare(net)
        regularisers = [table.build() for table in recipe.regularisers]
        for regulariser in regularisers:
            regulariser.prepare(net, context)
        trained = Mixed(net) if recipe.precision == "bfloat16" else net
        parameters = [*net.parameters(), *objective.parameters()]
        optimiser = ScheduledOptimiser(recipe.optimiser, parameters, recipe.epochs, batches)
        parts = Parts(net, list(objective.parameters()), optimiser, generator, regularisers, held_out)
        done = 0 if checkpoint is None else checkpoint.restore(parts)
        told, left = "", (recipe.epochs - done) * batches
        with working(f"training {recipe.name}", left, "batches") as work:
            for epoch in range(done, recipe.epochs):
                if held_out is not None and held_out.exhausted:
                    break
                work.note = f"epoch {epoch + 1} of {recipe.epochs}{told}"
                objective.begin(trained, epoch)
                trained.train()
                total = torch.zeros((), device=device)
                order = torch.randperm(len(data), generator=generator).tensor_split(batches)
                for step, batch in enumerate(order, epoch * batches + 1):
                    x = augment(data.x[batch], recipe.augmentation, data.box, generator).to(device)
                    for regulariser in regularisers:
                        regulariser.before(net)
                    loss = objective.loss(trained, x, data.y[batch].to(device))
                    optimiser.zero_grad()
                    loss.backward()
                    for regulariser in regularisers:
                        regulariser.gradients(net)
                    optimiser.step()
                    with torch.no_grad():
                        for regulariser in regularisers:
                            regulariser.after(net, step)
                    total += loss.detach() * len(batch)
                    work.advance()
                mean_loss = float(total) / len(data)
                told = f", loss {mean_loss:.4f}"
                if not torch.isfinite(total):
                    raise EvaluationError(
                        f"the loss became {mean_loss} in epoch {epoch + 1}",
                        "Lower optimiser.learning_rate in the recipe.",
                    )
                looked = None if held_out is None else held_out.look(net, settled=objective.settled(epoch))
                if report is not None or checkpoint is not None:
                    seen = measure(net, test, device)
                    best = held_out is not None and held_out.since == 0 and objective.settled(epoch)
                    reached = Epoch(epoch + 1, recipe.epochs, mean_loss, seen.accuracy, seen.mean_gap, looked, best)
                    if checkpoint is not None:
                        checkpoint.keep(reached, parts)
                    if report is not None:
                        report(reached)
        if held_out is not None:
            held_out.finish(net)
        optimiser.finish()
        for regulariser in reversed(regularisers):
            regulariser.finish(net)
        objective.finish(net)
    return net.cpu().to(memory_format=torch.contiguous_format).eval()  # pyright: ignore[reportCallIssue]


def build(recipe: Recipe, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The network of a recipe before training.

    Raises:
        UsageError: unknown architecture, or options that it does not take.
    """
    factory = architectures.get(recipe.architecture.name)
    try:
        return factory(input_shape, num_classes, **recipe.architecture.options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"the architecture {recipe.architecture.name!r} cannot be made for images of shape {input_shape}"
            f" with the options {recipe.architecture.options}: {error}",
            "Correct architecture.options in the recipe.",
        ) from error


def augment(x: Tensor, table: Augmentation, box: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Shifts every image by whole pixels, filled with zeros, and adds noise, clipped to the box.

    Args:
        x: (n, c, h, w); any shape if nothing is shifted.
        table: how much.
        box: the smallest and the largest value of an entry.
        generator: draws shifts and noise.

    Returns:
        The same shape.
    """
    if table.shift:
        if x.ndim != 4:
            raise UsageError(
                f"augmentation.shift needs images (channels, height, width), not {tuple(x.shape[1:])}",
                "Remove augmentation.shift from the recipe.",
            )
        x = _shift(x, table.shift, generator)
    if table.noise:
        x = (x + table.noise * torch.randn(x.shape, generator=generator)).clamp(*box)
    return x


def _shift(x: Tensor, largest: int, generator: torch.Generator) -> Tensor:
    n, _, height, width = x.shape
    padded = nn.functional.pad(x, (largest,) * 4)
    offset = torch.randint(2 * largest + 1, (2, n, 1), generator=generator)
    rows = offset[0] + torch.arange(height)
    columns = offset[1] + torch.arange(width)
    image = torch.arange(n)[:, None, None]
    return padded.movedim(1, -1)[image, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()


@contextlib.contextmanager
def _seeded(recipe: Recipe, device: torch.device) -> Generator[None, None, None]:
    """Seeds torch and sets its threads, and puts both back."""
    threads = torch.get_num_threads()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(recipe.seed)
        if recipe.threads is not None:
            torch.set_num_threads(recipe.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
