"""`load_model`: a path or a zoo name becomes a network that robcert can execute, or one clear error."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from robcert.errors import EvaluationError, RobcertError, UsageError, first_line
from robcert.math.shapes import reachable, refit
from robcert.network import architecture as architectures
from robcert.network import card as cards
from robcert.network import graph_files, weights
from robcert.network.adapt import WithoutGradient, adapted
from robcert.network.card import Card
from robcert.network.describe import WEIGHTS, File, classes_of, described, find, stated, with_shape
from robcert.network.device import usable_device
from robcert.network.digest import sha256_file, sha256_network, sha256_state
from robcert.network.float32 import exactly_float32
from robcert.network.fold import copy_module, fold
from robcert.network.libraries import Named
from robcert.network.libraries._packages import Access
from robcert.network.match import tensors_of
from robcert.network.normalize import check_normalization, with_normalization
from robcert.network.probe import probe
from robcert.network.request import Request
from robcert.network.state_dict import ReadNetwork, load_weights, running_shape
from robcert.preparation import Labels
from robcert.types import LoadedModel, Source

if TYPE_CHECKING:
    from robcert.network.onnx_import.fallback import RuntimeNetwork
    from robcert.network.onnx_import.network import OnnxNetwork


def load_model(
    reference: str | Path,
    *,
    arch: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    box: tuple[float, float] | None = None,
    device: str = "cpu",
    name: str | None = None,
    images: Tensor | None = None,
    weights_key: str | None = None,
    likely_classes: int | None = None,
    random_weights: bool = False,
    download: bool = False,
) -> LoadedModel:
    """Return the network behind a path or a name, ready to be executed.

    What is given here goes before what the card in the file says.

    Args:
        reference: a file (safetensors, state_dict, .pt2, TorchScript or ONNX, told by its content), a folder
            that holds ``weights.safetensors`` or that timm or transformers wrote, a name of the zoo, or one of a
            library: ``torchvision:NAME@WEIGHTS``, ``timm:NAME``, ``hf:ORG/REPO``.
        arch: for files that hold weights only: a registered name, ``torchvision:NAME``, ``timm:NAME``,
            ``package.module:factory``.
        input_shape: the shape of one image, channels first.
        num_classes: the number of logits.
        mean: subtracted per channel inside the network.
        std: divides per channel inside the network.
        box: the smallest and the largest value of an input entry; (0, 1) where neither this nor the card says
            so.
        device: where the network runs.
        name: how a table calls it.
        images: (n, *shape), what it is going to see. They say the shape of an image where nothing else does, and an
            ONNX file is compared with onnxruntime on them. The network may take another shape than theirs, next to it:
            `robcert.data.fit_to` brings them to it.
        weights_key: for a checkpoint that holds several sets of weights: the path of those to take, e.g.
            "state_dict_ema" or "models.0".
        likely_classes: a number of classes to build an architecture with; that of the weights counts.
        random_weights: whether a name of a library stands for its architecture with random weights.
        download: whether files that a name of a library needs may be downloaded.

    Returns:
        A network in eval mode, frozen, float32, folded, with its normalisation inside, probed once.

    Raises:
        UsageError: no such file or name; the architecture or the shape of an image is missing or unknown.
        EvaluationError: the file is damaged, holds code, does not fit its architecture, or the network does
            not answer with finite logits.
    """
    check_normalization(mean, std)
    found = find(reference, Access(random_weights, download))
    target = usable_device(device)
    if weights_key is not None and not (isinstance(found, File) and found.format in WEIGHTS):
        raise UsageError(f"{reference} holds a network, not sets of weights", "Leave --weights-key out.")
    given = stated(input_shape=input_shape, num_classes=num_classes, architecture=arch, box=box)
    if mean is not None or std is not None:
        given |= {"mean": mean and tuple(mean), "std": std and tuple(std)}
    card = described(found, given)
    like = None if images is None else tuple(images.shape[1:])
    if isinstance(found, Named):
        read = ReadNetwork(_made(found, card), None, found.notes)
    elif found.format in WEIGHTS:
        read = _read_weights(found, card, weights_key, like, likely_classes)
    else:
        read = _read_graph(found, card, images)
    shape = card.input_shape or read.input_shape or architectures.default_shape(card.architecture or "")
    if shape is None and like is not None:
        shape = running_shape(read.module, reachable(like))
    if shape is None:
        raise UsageError(
            f"the shape of an image is not known: {reference} does not say it",
            f"Add --input-shape, e.g.\n  robcert attack {reference} --input-shape 3,32,32 "
            "--data npz:images.npz --norm l2 --eps 1.5",
        )
    called = name or card.name or _name(found)
    model = _finish(read.module, with_shape(card, shape), called, _source(reference, found), target)
    return replace(model, notes=read.notes)


def from_module(
    module: nn.Module,
    input_shape: tuple[int, ...],
    num_classes: int | None = None,
    *,
    name: str = "module",
    box: tuple[float, float] = (0.0, 1.0),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str = "cpu",
) -> LoadedModel:
    """Return a network that is in memory already; ``module`` itself is copied and never touched.

    Raises:
        UsageError: ``module`` is none, or cannot be copied.
        EvaluationError: it has weights that are NaN, or does not answer with finite logits of the right
            shape.
    """
    if not isinstance(module, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance] (called by untyped code)
        raise UsageError(f"found a {type(module).__name__}, expected a torch.nn.Module")
    check_normalization(mean, std)
    target = usable_device(device)
    try:
        copied = copy_module(module)
    except Exception as error:
        raise UsageError(f"the module cannot be copied: {error}", "Make it work with copy.deepcopy.") from error
    fields = stated(name=name, input_shape=input_shape, num_classes=num_classes, box=box, mean=mean, std=std)
    card = cards.parse(fields, "from_module")
    state = module.state_dict()
    weights.check_finite(state, name)
    source = Source(name, "", "memory", sha256_state(state))
    return _finish(copied.cpu(), card, name, source, target)


def read_weights(
    reference: str | Path, card: Card, weights_key: str | None, access: Access = Access()
) -> nn.Module | None:
    """Return the network of weights as they were saved (not folded, not normalised); None where no card can name it.

    Args:
        reference: the file, or a name of the zoo or of a library.
        card: of the model as it was loaded.
        weights_key: which weights of a checkpoint that holds several.
        access: to the weights of a library.

    Raises:
        UsageError: no such file or name.
        EvaluationError: the file is no model.
    """
    found = find(reference, access)
    if isinstance(found, Named):
        return _filled(found, card) if card.architecture else None
    return _read_weights(found, card, weights_key, None, None).module if found.format in WEIGHTS else None


def _read_weights(
    file: File,
    card: Card,
    weights_key: str | None,
    like: tuple[int, ...] | None,
    likely_classes: int | None,
) -> ReadNetwork:
    """Return the network of the card's architecture, with the weights in a file."""
    path = file.path
    found = weights.read_safetensors(path) if file.format == "safetensors" else weights.read_pickle(path)
    if card.architecture is None:
        raise _missing(path)
    tensors = tensors_of(found, str(path), weights_key)
    guess = likely_classes or weights.guess_classes(tensors.values)
    request = Request(card.architecture, None, card.num_classes, guess, card.options)
    if card.input_shape is not None or like is None:
        made = load_weights(tensors, request, [card.input_shape or architectures.default_shape(card.architecture)])
        return replace(made, input_shape=None)
    # Networks that are built for a shape are built for that of the data; others run on it, or on one next to it.
    shapes = reachable(like)
    made = load_weights(tensors, request, shapes)
    first = shapes if made.input_shape is None else [made.input_shape, *shapes]
    return replace(made, input_shape=running_shape(made.module, first))


def _read_graph(file: File, card: Card, images: Tensor | None) -> ReadNetwork:
    """Return the network that a file describes, and the shape of an image that it says."""
    path, kind = file.path, file.format
    if kind == "onnx":
        network = _read_onnx(path, card, images)
        return ReadNetwork(network, network.input_shape)
    module = graph_files.load_export(path) if kind == "torch_export" else graph_files.load_torchscript(path)
    weights.check_finite(module.state_dict(), str(path))
    return ReadNetwork(module, module.input_shape if isinstance(module, graph_files.ExportedNetwork) else None)


def _read_onnx(path: Path, card: Card, images: Tensor | None) -> OnnxNetwork | RuntimeNetwork:
    """Return the network in an ONNX file, compared with onnxruntime on what the network itself will see."""
    from robcert.network.onnx_import.load import load_onnx

    def given(shape: tuple[int, ...]) -> Tensor | None:
        fitted = None if images is None else refit(images[:16], shape)
        normalised = with_normalization(nn.Identity(), card.mean, card.std, shape, card.scale)
        return None if fitted is None else normalised(fitted[0].cpu())

    like = None if images is None else tuple(images.shape[1:])
    return load_onnx(path, card.input_shape, _span(card), given, like, runtime=True)


def _filled(named: Named, card: Card) -> nn.Module:
    if named.weights is None:
        assert named.make is not None
        return named.make(card)
    tensors = named.weights()
    guess = weights.guess_classes(tensors.values)
    request = Request(card.architecture or "", None, card.num_classes, guess, card.options)
    return load_weights(tensors, request, [card.input_shape]).module


def _made(named: Named, card: Card) -> nn.Module:
    """Build the network of a library.

    Raises:
        EvaluationError: the library cannot build it, or the weights do not fit.
    """
    try:
        with graph_files.without_deprecations():
            return _filled(named, card)
    except RobcertError:
        raise
    except Exception as error:  # whatever a library says of what it does not build
        raise EvaluationError(
            f"{card.name} cannot be built by its library: {type(error).__name__}: {first_line(error)}",
            f"It was given input_shape={card.input_shape}, num_classes={card.num_classes}.",
        ) from error


def _source(reference: str | Path, found: File | Named) -> Source:
    if isinstance(found, File):
        return Source(str(reference), str(found.path.resolve()), found.format, sha256_file(found.path))
    digests = [sha256_file(path) for path in found.files]
    whole = (
        digests[0] if len(digests) == 1 else hashlib.sha256(" ".join((str(reference), *digests)).encode()).hexdigest()
    )
    return Source(str(reference), str(found.files[0].resolve()) if found.files else "", found.format, whole)


def _name(found: File | Named) -> str:
    if isinstance(found, Named):
        return found.format
    path = found.path
    return path.parent.name if found.beside and path.stem == "weights" else path.stem


def _missing(path: Path) -> UsageError:
    return UsageError(
        f"{path} holds weights only, and nothing in it says which network they belong to",
        "Missing: --arch (a name from `robcert architectures`, torchvision:NAME, timm:NAME or package.module:factory) "
        "and --data. "
        f"For example\n  robcert attack {path} --arch torchvision:resnet18 --data npz:images.npz "
        "--norm l2 --eps 1.5",
    )


def _finish(module: nn.Module, card: Card, name: str, source: Source, device: torch.device) -> LoadedModel:
    """Eval mode, float32, folded, normalised, frozen, on the device, probed."""
    shape = card.input_shape
    assert shape is not None
    notices: tuple[str, ...] = getattr(module, "notices", ())
    whole = isinstance(module, (graph_files.ExportedNetwork, torch.jit.ScriptModule))
    module = module.eval()
    scale = () if card.scale is None else (card.scale,)
    source = replace(source, network=sha256_network(module, shape, card.box, card.mean, card.std, *scale))
    module = adapted(module, shape, _span(card), card.num_classes, fresh=bool(card.mean or card.std))
    if not whole:
        module = fold(module, shape, _span(card))
    module = with_normalization(module, card.mean, card.std, shape, card.scale)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    try:
        module = module.to(device)
    except RuntimeError as error:
        raise EvaluationError(f"the network cannot be moved to {device}: {error}") from error
    exactly_float32(device)
    found = probe(module, shape, card.num_classes, card.box, device)
    if found.gradient.absent:
        module = WithoutGradient(module, found.gradient.missing)
    card = classes_of(card, found.num_classes).model_copy(
        update={"name": card.name or name, "num_classes": found.num_classes}
    )
    return LoadedModel(
        module=module,
        name=name,
        input_shape=shape,
        num_classes=found.num_classes,
        box=card.box,
        source=source,
        rounding=found.rounding,
        card=card.dump(),
        warnings=(*notices, *found.warnings),
        no_gradient=found.gradient.missing,
        pipeline=card.pipeline,
        labels=card.labels or Labels(),
    )


def _span(card: Card) -> tuple[float, float]:
    """Return the range of the inputs behind the normalisation, on which a folded network is compared."""
    (low, high), mean, std, scale = card.box, card.mean or (0.0,), min(card.std or (1.0,)), card.scale or 1.0
    return (scale * low - max(mean)) / std, (scale * high - min(mean)) / std
