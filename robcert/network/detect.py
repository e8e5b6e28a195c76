"""The format of a file, told from its content: a suffix is only a name."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from robcert.errors import EvaluationError, UsageError, first_line

Format = Literal["safetensors", "state_dict", "torch_export", "torchscript", "onnx"]

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The magic number that torch pickled in front of a checkpoint before it wrote zip archives."""

UNPACKED = 20
"""How many times its size an archive may unpack to: torch stores tensors as they are and packs only text."""

_SMALL = 2**24

_OTHERS = {
    b"\x89HDF": "an HDF5 file (Keras)",
    b"\x1f\x8b": "a gzip archive (unpack it first)",
    b"GGUF": "a GGUF file",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG image",
    b"\x93NUMPY": "a NumPy array (data go to --data)",
}

READABLE = "robcert reads safetensors, state_dicts (.pt, .pth), torch.export archives (.pt2), TorchScript and ONNX."
REEXPORT = (
    "Save it in a form that holds no code:\n"
    "  torch.export.save(torch.export.export(model.eval(), (x,), "
    "dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)), 'model.pt2')\n"
    "or its state_dict, loaded with --arch package.module:factory:\n"
    "  torch.save(model.state_dict(), 'model.pt')"
)


def detect(path: Path) -> Format:
    """Return the format of a model file.

    Raises:
        UsageError: the file does not exist or cannot be opened.
        EvaluationError: it is empty, truncated, or no model that robcert reads; the message says what it is.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    if size == 0:
        raise EvaluationError(f"{path} is empty (0 bytes), expected a model", "Write or download it again.")
    if head.startswith(b"PK"):
        return _zip(path)
    if head.startswith(_LEGACY):
        return "state_dict"
    if _is_safetensors(path, head, size):
        return "safetensors"
    if _is_onnx(path, head):
        return "onnx"
    raise _refusal(path, head)


def damaged(path: Path, kind: str, error: BaseException) -> EvaluationError:
    """Return what a person is told of a file that begins as a model and cannot be read."""
    return EvaluationError(
        f"{path} looks like {kind} but cannot be read: {first_line(error)}",
        "It is damaged, truncated or from another version: copy, download or write it again.",
    )


def members(path: Path) -> dict[str, str]:
    """Return the files in a zip archive of torch: their names below the top folder -> their names.

    Raises:
        EvaluationError: the archive is truncated or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            declared = sum(member.file_size for member in archive.infolist())
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        NotImplementedError,
        EOFError,
        UnicodeDecodeError,
    ) as error:
        raise damaged(path, "a zip archive", error) from None
    size = path.stat().st_size
    if declared > UNPACKED * size + _SMALL:
        raise EvaluationError(
            f"{path} has {size:,} bytes and says that it unpacks to {declared:,}; it was not unpacked",
            "Archives of models hold tensors as they are, so this one is damaged or made to fill a memory.",
        )
    return {name.partition("/")[2] or name: name for name in names}


def _zip(path: Path) -> Format:
    inside = members(path)
    if "archive_format" in inside or any(name.startswith("models/") for name in inside):
        return "torch_export"
    if "serialized_exported_program.json" in inside:
        raise EvaluationError(f"{path} was written by torch.export before torch 2.8", REEXPORT)
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        return "torchscript"
    if "data.pkl" in inside:
        return "state_dict"
    if inside and all(name.endswith(".npy") for name in inside):
        raise EvaluationError(f"{path} is an .npz of arrays, expected a model", f"Did you mean --data npz:{path}?")
    some = ", ".join(list(inside.values())[:3]) or "nothing"
    raise EvaluationError(f"{path} is a zip archive that holds no model (it holds {some})", READABLE)


def _is_safetensors(path: Path, head: bytes, size: int) -> bool:
    """Return whether a file begins with 8 bytes of header length, then a JSON object of that length."""
    if len(head) < 9 or head[8:9] != b"{":
        return False
    length = int.from_bytes(head[:8], "little")
    if 8 + length > size:
        # A header that begins as one and whose length is within reason was cut off, or its length is damaged.
        raise EvaluationError(
            f"{path} looks like safetensors, but its header claims {length} bytes and the file has {size}",
            "It is truncated or damaged: copy or download it again.",
        )
    return True


def _refusal(path: Path, head: bytes) -> EvaluationError:
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            return EvaluationError(f"{path} is {what}, expected a model", READABLE)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return EvaluationError(
            f"{path} is a Python pickle; robcert never unpickles, because that can run any code", REEXPORT
        )
    try:
        text = head.decode("utf-8")
        is_text = all(c.isprintable() or c.isspace() for c in text)
    except UnicodeDecodeError:
        is_text = False
    if is_text:
        first = head.decode("utf-8").strip().splitlines()[:1]
        return EvaluationError(
            f"{path} is a text file, expected a model (it begins {(first or [''])[0][:40]!r})", READABLE
        )
    return EvaluationError(f"{path} is no model that robcert knows (it begins {head[:8].hex(' ')})", READABLE)


def _is_onnx(path: Path, head: bytes) -> bool:
    """ONNX has no magic: field 1 (ir_version) is a small number, then another field of ModelProto follows."""
    if len(head) < 4 or head[0] != 0x08 or not 1 <= head[1] <= 40:
        return False
    return head[2] in (0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42) or path.suffix == ".onnx"
