"""The digest of a network is of what it computes: its weights, its layers and their code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from torch import nn

from robcert.network.digest import sha256_network

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = lambda x: 2 * x

    def forward(self, x):
        return {answer}
"""


def network(folder: Path, text: str) -> nn.Module:
    path = folder / f"net{len(list(folder.iterdir()))}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("net", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Net()


def test_code_counts_and_words_about_it_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inspect.getsource", lambda thing: text)  # inspect finds a class by the name of its module
    text = CODE.format(answer="self.scale(x)")
    first = sha256_network(network(tmp_path, text))
    text = CODE.format(answer="self.scale(x)  # doubled")
    text = text.replace("    def forward(self, x):", '    def forward(self, x):\n        """Return twice x."""\n')
    text = text.replace("class Net(nn.Module):", 'class Net(nn.Module):\n    """Doubles."""\n')
    assert sha256_network(network(tmp_path, text)) == first
    text = CODE.format(answer="self.scale(x) + 1")
    assert sha256_network(network(tmp_path, text)) != first


def test_a_lambda_in_the_middle_of_a_line_counts() -> None:
    def partly(factor: int) -> nn.Module:
        net = nn.Linear(2, 2)
        nn.init.zeros_(net.weight), nn.init.zeros_(net.bias)
        net.shown, net.other = (lambda x: 2 * x), factor  # type: ignore[assignment]
        return net

    assert sha256_network(partly(3)) == sha256_network(partly(3)) != sha256_network(partly(4))
