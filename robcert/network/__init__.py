"""A model on disk, or in memory, becomes a `robcert.types.LoadedModel`.

The functions are loaded on first use: cards and the zoo can be read without importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robcert.network.card import Card as Card
    from robcert.network.describe import peek_card as peek_card
    from robcert.network.describe import preparation_of as preparation_of
    from robcert.network.export import export_pt2 as export_pt2
    from robcert.network.load import from_module as from_module
    from robcert.network.load import load_model as load_model
    from robcert.network.onnx_export import export_onnx as export_onnx
    from robcert.network.save import save_model as save_model
    from robcert.network.zoo import zoo_names as zoo_names
    from robcert.network.zoo import zoo_path as zoo_path

_PUBLIC = {
    "Card": "card",
    "export_onnx": "onnx_export",
    "export_pt2": "export",
    "from_module": "load",
    "load_model": "load",
    "peek_card": "describe",
    "preparation_of": "describe",
    "save_model": "save",
    "zoo_names": "zoo",
    "zoo_path": "zoo",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"robcert.network.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'robcert.network' has no attribute {name!r}")
