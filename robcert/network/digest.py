"""Digests: what a run says it was about."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def sha256_file(path: Path) -> str:
    """Return the digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_state(state: Mapping[str, Any]) -> str:
    """Return the digest of a state_dict: names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        value = state[key]
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous()
            digest.update(f"{key} {flat.dtype} {tuple(flat.shape)}\n".encode())
            digest.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()


def sha256_network(module: nn.Module, *also: object) -> str:
    """Return the digest of what a network computes, as far as it can be read: its state, its layers and their code.

    The file of a network is not all of it: there are its architecture, which may be a user's, the normalisation that
    is asked for, the external data of an ONNX file.

    Args:
        module: as loaded, before anything is folded, which rounds.
        also: what else decides the answers, as its repr says it.
    """
    digest = hashlib.sha256(sha256_state(module.state_dict()).encode())
    for line in (*map(repr, also), *_structure(module)):
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def _structure(module: nn.Module) -> Iterator[str]:
    seen: set[type] = set()
    for name, part in module.named_modules():
        kind = type(part)
        yield f"{name}: {kind.__module__}.{kind.__qualname__}({part.extra_repr()})"
        if kind not in seen:
            seen.add(kind)
            yield _source(kind)
        yield from (f"{key} = {_said(value)}" for key, value in sorted(vars(part).items()) if not key.startswith("_"))


def _said(value: object) -> str:
    """A setting of a layer; an object that has no words of its own by its type: its address is another every time."""
    if isinstance(value, functools.partial):
        return f"{_said(value.func)} {_said(value.args)} {_said(value.keywords)}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_said, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_said(one)}' for key, one in value.items())}}}"
    if isinstance(value, int | float | complex | str | bytes | torch.dtype | torch.device | None):
        return repr(value)
    if isinstance(value, Tensor):
        return sha256_state({"": value})
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return f"{name} {_source(value)}" if inspect.isfunction(value) else name


def _source(thing: type | object) -> str:
    """Return the code of a class or function that is not torch's; "" where there is none to read.

    Comments, docstrings and the layout of the text are no part of it.
    """
    if (getattr(thing, "__module__", None) or "").split(".")[0] in ("torch", "torchvision"):
        return ""
    try:
        text = textwrap.dedent(inspect.getsource(thing))  # type: ignore[arg-type]
    except (OSError, TypeError):
        return ""
    try:
        tree = ast.parse(text)
    except SyntaxError:  # a lambda in the middle of a line
        return text
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
