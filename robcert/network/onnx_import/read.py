"""An ONNX file as a message of protobuf, with its external data beside it, and nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robcert.errors import EvaluationError
from robcert.network.onnx_import import limits
from robcert.network.onnx_import.table import OLDEST


def read_onnx(path: Path) -> Any:
    """Return the ``onnx.ModelProto`` in a file, with all data inside.

    Raises:
        EvaluationError: the file is damaged, too large, or wants data from outside of its folder.
    """
    model = _parse(path)
    if not model.graph.node or not model.opset_import:
        raise EvaluationError(f"{path} is an ONNX file without a graph, expected a classifier")
    _check_opset(model, path)
    if model.graph.sparse_initializer:
        raise EvaluationError(f"{path} has sparse weights, which robcert does not read", "Export it with dense ones.")
    _inline(model, path, path.stat().st_size)
    return model


def read_metadata(path: Path) -> dict[str, str]:
    """Return the free texts in an ONNX file.

    Raises:
        EvaluationError: the file is damaged or too large.
    """
    return {entry.key: entry.value for entry in _parse(path).metadata_props}


def _parse(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    size = path.stat().st_size
    if size > limits.MOST_BYTES:
        raise EvaluationError(f"{path} has {size:,} bytes, more than protobuf can hold ({limits.MOST_BYTES:,})")
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
        _check_texts(model)
        return model
    except (DecodeError, RecursionError, ValueError) as error:
        raise EvaluationError(
            f"{path} looks like ONNX but cannot be read: {error}",
            "It is damaged, truncated or nested too deeply: copy, download or export it again.",
        ) from None


def messages(message: Any) -> Iterator[Any]:
    """A message of protobuf and all in it, wherever they stand: nodes of branches and functions, parts of tensors."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in (value,) if hasattr(value, "ListFields") else value:
                yield from messages(inner)


def nodes(message: Any) -> list[Any]:
    """Return every node in a message, those of branches, bodies and functions included."""
    return [inner for inner in messages(message) if inner.DESCRIPTOR.name == "NodeProto"]


def _check_texts(message: Any) -> None:
    """Protobuf hands out a name that is no UTF-8 as bytes, which nothing behind this point expects.

    Raises:
        ValueError: there is one.
    """
    for field, value in (entry for inner in messages(message) for entry in inner.ListFields()):
        if field.type == field.TYPE_STRING:
            texts = (value,) if isinstance(value, str | bytes) else value
            wrong = next((text for text in texts if isinstance(text, bytes)), None)
            if wrong is not None:
                raise ValueError(f"the text {wrong[:40]!r} of its field {field.name!r} is no UTF-8")


def _check_opset(model: Any, path: Path) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx") and not OLDEST <= entry.version <= newest:
            raise EvaluationError(
                f"{path} is written in opset {entry.version}, and robcert reads {OLDEST} to {newest}",
                "Export it again, e.g. torch.onnx.export(..., opset_version=18).",
            )


def _inline(model: Any, path: Path, size: int) -> None:
    """Put external data into the tensors that name them."""
    import onnx

    folder = path.resolve().parent
    for tensor in [inner for inner in messages(model) if inner.DESCRIPTOR.name == "TensorProto"]:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        content = _external(tensor, folder, path)
        size += len(content)
        if size > limits.MOST_BYTES:
            raise EvaluationError(f"{path} has more than {limits.MOST_BYTES:,} bytes with its external data")
        tensor.raw_data = content
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _external(tensor: Any, folder: Path, path: Path) -> bytes:
    """Return the bytes of one tensor from a file in the folder of the model."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    wanted = folder / location
    do = "External data must lie in the folder of the model. Nothing was read from there."
    try:
        if not location or Path(location).is_absolute() or ".." in Path(location).parts:
            raise EvaluationError(f"{path} wants the data of tensor {tensor.name!r} from {location!r}", do)
        real = wanted.resolve(strict=True)
        if not real.is_relative_to(folder) or not real.is_file():
            raise EvaluationError(f"{path} wants the data of tensor {tensor.name!r} from {real}", do)
        offset, whole = int(entries.get("offset", 0)), real.stat().st_size
        length = int(entries.get("length", whole - offset))
        if offset < 0 or length < 0 or offset + length > whole:
            raise EvaluationError(
                f"{path} wants bytes {offset:,} to {offset + length:,} of {location}, which has {whole:,}",
                "The file of external data is truncated: copy or download it again.",
            )
        with real.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"the external data {location!r} of {path} cannot be read: {error}",
            "An ONNX model with external data is two files, which belong in one folder.",
        ) from None
