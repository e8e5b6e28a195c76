"""Images as a network takes them: other channels, flat, or refused; never resized, never mixed up in silence."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from robcert.data import fit_to, load_dataset
from robcert.errors import UsageError
from robcert.math.shapes import reachable, refit
from robcert.network import from_module
from robcert.types import Dataset, LoadedModel, Source

DRAW = torch.Generator().manual_seed(0)


def drawn(*shape: int) -> torch.Tensor:
    return torch.rand(4, *shape, generator=DRAW)


def model(shape: tuple[int, ...], classes: int = 10, name: str = "net") -> LoadedModel:
    return LoadedModel(nn.Identity(), name, shape, classes, (0, 1), Source(name, "", "memory", ""))


def data(x: torch.Tensor, y: list[int] | None = None, **others: object) -> Dataset:
    labels = torch.tensor(y or [0, 1, 2, 1])
    names = others.pop("classes", tuple(str(k) for k in range(int(labels.max()) + 1)))
    return Dataset("mine", "test", x, labels, torch.arange(4), names, **others)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(784, 1), (1, 784, 1), (784,), (784, 1, 1), (1, 1, 784), (28, 28), (28, 28, 1)])
def test_grey_images_in_any_arrangement(shape: tuple[int, ...]) -> None:
    """As the networks of VNN-COMP take MNIST."""
    x = drawn(1, 28, 28)
    fitted = fit_to(data(x), [model(shape)])
    assert fitted.shape == shape
    assert torch.equal(fitted.x.flatten(1), x.flatten(1)), "row by row"
    (note,) = fitted.notes
    assert "1x28x28 are given as " + "x".join(map(str, shape)) in note
    assert "as net takes" in note


def test_colour_images_flat_and_with_channels_last() -> None:
    x = drawn(3, 6, 5)
    flat = fit_to(data(x), [model((90,))])
    assert torch.equal(flat.x, x.flatten(1))
    assert "channels first" in flat.notes[0], "there are two ways to flatten colours: which one is said"
    last = fit_to(data(x), [model((6, 5, 3))])
    assert torch.equal(last.x, x.permute(0, 2, 3, 1))
    assert torch.equal(fit_to(data(flat.x), [model((3, 6, 5))]).x, x)


def test_grey_and_colour() -> None:
    grey = drawn(1, 6, 5)
    colour = fit_to(data(grey), [model((3, 6, 5))])
    assert torch.equal(colour.x, grey.repeat(1, 3, 1, 1))
    assert "grey images were repeated in three channels" in colour.notes[0]
    back = fit_to(data(colour.x), [model((1, 6, 5))])
    assert torch.equal(back.x, grey), "exactly"
    assert "three equal channels became one" in back.notes[0]
    mixed = drawn(3, 6, 5)
    luma = fit_to(data(mixed), [model((1, 6, 5))])
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    assert torch.allclose(luma.x, (mixed * weights).sum(1, keepdim=True), atol=1e-6)
    assert "0.299 R + 0.587 G + 0.114 B" in luma.notes[0]
    both = fit_to(data(mixed), [model((30,))])
    assert torch.equal(both.x, luma.x.flatten(1))
    assert "became grey" in both.notes[0]
    assert "1x6x5 are given as 30" in both.notes[0]


def test_white_stays_inside_the_box() -> None:
    white = torch.ones(4, 3, 5, 5)
    white[:, :, 0, 0] = torch.tensor([1.0, 1.0, 0.9999999])
    found = refit(white, (1, 5, 5))
    assert found is not None
    assert float(found[0].max()) <= 1


@pytest.mark.parametrize(
    ("now", "shape", "advice"),
    [
        ((3, 32, 32), (3, 224, 224), "--input-shape 3,32,32"),
        ((1, 28, 28), (3, 32, 32), "--input-shape 3,28,28"),
        ((1, 28, 20), (1, 20, 28), "--input-shape 1,28,20"),
        ((1, 28, 28), (4, 14, 14), "Resize the images first"),
        ((1, 28, 28), (28, 14, 2), "Resize"),
        ((12,), (2, 6), None),
        ((784,), (28, 14, 2), "npz:PATH"),
        ((3, 32, 32), (64, 48), "npz:PATH"),
        ((4, 8, 8), (3, 8, 8), "--data"),
        ((2, 3, 4, 5), (3, 2, 4, 5), "npz:PATH"),
    ],
)
def test_what_cannot_be_told_is_refused(now: tuple[int, ...], shape: tuple[int, ...], advice: str | None) -> None:
    if advice is None:
        assert refit(drawn(*now), shape) is not None
        return
    with pytest.raises(UsageError) as caught:
        fit_to(data(drawn(*now)), [model(shape)])
    assert "x".join(map(str, shape)) in caught.value.found
    assert "x".join(map(str, now)) in caught.value.found
    assert advice in caught.value.do


def test_models_of_one_shape_only() -> None:
    x = drawn(1, 28, 28)
    assert fit_to(data(x), [model((784,)), model((784,))]).shape == (784,)
    with pytest.raises(UsageError, match="different shapes: a 784, b 1x28x28"):
        fit_to(data(x), [model((784,), name="a"), model((1, 28, 28), name="b")])


def test_the_number_of_classes_is_that_of_the_network() -> None:
    x = drawn(2)
    assert fit_to(data(x, [0, 3, 0, 3]), [model((2,), 10)]).notes == (), "labels are numbers: nothing is to be said"
    with pytest.raises(UsageError, match="net has 3 classes, but mine has the label 3"):
        fit_to(data(x, [0, 3, 0, 3]), [model((2,), 3)])
    with pytest.raises(UsageError, match=r"has the label 3 \('dog'\)") as caught:
        fit_to(data(x, [0, 3, 0, 3], classes=("a", "b", "c", "dog"), ranked=True), [model((2,), 3)])
    assert "--class-order" in caught.value.do


def test_classes_by_place_of_a_network_with_more() -> None:
    x = drawn(2)
    (note,) = fit_to(data(x, classes=("ant", "bee", "cat"), ranked=True), [model((2,), 10)]).notes
    assert "net has 10 classes and mine has 3: class k of the data is taken as answer k" in note
    assert "--class-order" in note
    assert fit_to(data(x, classes=("ant", "bee", "cat"), ranked=True), [model((2,), 3)]).notes == ()
    given = data(x, classes=("ant", "bee", "cat"), class_order={"ant": 0, "bee": 1, "cat": 2})
    assert fit_to(given, [model((2,), 10)]).notes == ()


def test_numbers_with_gaps_are_asked_about() -> None:
    """Folders 0, 1, 3 of a network with ten classes: 3 is class 3, or the third."""
    gaps = data(drawn(2), classes=("0", "1", "3"), ranked=True)
    with pytest.raises(UsageError, match="is '3' class 3 or class 2") as caught:
        fit_to(gaps, [model((2,), 10)])
    assert "--class-order" in caught.value.do
    assert fit_to(gaps, [model((2,), 3)]).notes == (), "a network with three classes leaves no question"
    assert fit_to(dataclasses.replace(gaps, ranked=False), [model((2,), 10)]).notes == ()


def test_what_is_reachable_is_what_can_be_refitted() -> None:
    for shape in ((1, 28, 28), (3, 8, 9), (12,), (2, 3, 4)):
        assert reachable(shape)[0] == shape
        for wanted in reachable(shape):
            found = refit(drawn(*shape), wanted)
            assert found is not None
            assert found[0].shape == (4, *wanted)


def test_a_real_network_on_refitted_images() -> None:
    digits = load_dataset("digits", n=20)
    flat = from_module(nn.Linear(64, 10), (64,))
    assert flat.module(fit_to(digits, [flat]).x).shape == (20, 10)
