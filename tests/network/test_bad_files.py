"""Whatever the bytes are: a network, or one clear error; nothing in a file is ever run."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from robcert.errors import EvaluationError, RobcertError, UsageError
from robcert.network import Card, load_model, peek_card, save_model
from robcert.network.card import write_toml
from robcert.nn import architectures

from .conftest import CLASSES, SHAPE, images, small_net


class Trap:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (self.path,)


def refused(path: Path, match: str, **options: object) -> RobcertError:
    with pytest.raises(RobcertError, match=match) as caught:
        load_model(path, **options)  # pyright: ignore[reportArgumentType]
    with pytest.raises(RobcertError):
        peek_card(path)
    return caught.value


CONTENTS = {
    "empty": (b"", "is empty"),
    "random": (bytes(range(137, 237)), "no model that robcert knows"),
    "text": (b"epoch,loss\n1,0.5\n", "is a text file"),
    "pickle": (pickle.dumps({"a": 1}), "Python pickle"),
    "onnx": (b"\x08\x0a\x12\x07pytorch\x1a\x05" + bytes(40), "looks like ONNX but cannot be read"),
    "half a zip": (b"PK\x03\x04" + bytes(60), "truncated"),
    "broken header": ((9).to_bytes(8, "little") + b"{not json" + bytes(8), "looks like safetensors but cannot be read"),
    "short header": ((900).to_bytes(8, "little") + b"{}", "header claims 900 bytes"),
    "html": (b"<!DOCTYPE html><html>404</html>", "is a text file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_what_is_no_model_is_named(tmp_path: Path, kind: str) -> None:
    content, match = CONTENTS[kind]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    error = refused(path, match)
    assert error.exit_code == 3
    assert error.do


def test_missing_files_folders_and_misspelt_names(tmp_path: Path) -> None:
    for reference in (tmp_path / "none.pt", "", "a\0b"):
        with pytest.raises(UsageError) as caught:
            load_model(reference)
        assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="is a folder, expected a model file"):
        load_model(tmp_path)


def test_a_misspelt_zoo_name_is_corrected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robcert.network import zoo

    card = Card(architecture="linear", input_shape=SHAPE, num_classes=CLASSES)
    (tmp_path / "zoo" / "digits-tiny").mkdir(parents=True)
    monkeypatch.setattr(zoo, "zoo_roots", lambda: [tmp_path / "zoo"])
    save_model(
        architectures.get("linear")(SHAPE, CLASSES), card, tmp_path / "zoo" / "digits-tiny" / "weights.safetensors"
    )
    write_toml(card, tmp_path / "zoo" / "digits-tiny" / "model.toml")
    assert zoo.zoo_names() == ["digits-tiny"]
    assert load_model("digits-tiny").name == "digits-tiny"
    (tmp_path / "digits-tiny").mkdir()  # a folder of another kind hides nothing
    assert load_model("digits-tiny").name == "digits-tiny"
    with pytest.raises(UsageError, match="Did you mean 'digits-tiny'"):
        load_model("digits-tini")
    with pytest.raises(UsageError, match="Did you mean 'digits-tiny'"):
        zoo.zoo_path("digits-tini")


def test_archives_that_are_no_models(tmp_path: Path) -> None:
    import numpy as np

    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    refused(tmp_path / "x.npz", "--data npz:")
    with zipfile.ZipFile(tmp_path / "notes.zip", "w") as archive:
        archive.writestr("notes.txt", "hello")
    refused(tmp_path / "notes.zip", "zip archive that holds no model")


def test_a_pickled_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    for zipped in (True, False):
        path = tmp_path / "a.pt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(small_net(), path, _use_new_zipfile_serialization=zipped)
        error = refused(path, "did not unpickle it")
        assert "--arch package.module:factory" in str(error)
        assert "torch.save(model.state_dict(), 'model.pt')" in str(error)


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain", "nested"])
def test_a_pickle_that_would_create_a_file_does_not(tmp_path: Path, kind: str, factory: str) -> None:
    trap, path = tmp_path / "sprung", tmp_path / "a.pt"
    content = {"state_dict": {"weight": torch.zeros(1), "extra": Trap(trap)}} if kind == "nested" else Trap(trap)
    if kind == "plain":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind != "legacy")
    refused(path, "can run any code")
    with pytest.raises(EvaluationError):
        load_model(path, arch=factory)
    assert not trap.exists()


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Copies an archive of torch, with some of its members changed or left out."""
    reader = torch._C.PyTorchFileReader(str(source))
    writer = torch._C.PyTorchFileWriter(str(target))
    for name in reader.get_all_records():
        if name.startswith(".data") or name in ("byteorder", "version"):
            continue
        content = change(name, reader.get_record(name))
        if content is not None:
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()


def records(path: Path) -> list[tuple[str, bytes]]:
    reader = torch._C.PyTorchFileReader(str(path))
    return [(name, reader.get_record(name)) for name in reader.get_all_records()]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "good.pt2"
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(small_net(), (images(2),), dynamic_shapes=dynamic), path)
    return path


def pickled(path: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save(Trap(path), buffer)
    return buffer.getvalue()


def _edit(change: Callable[[dict[str, object]], None]) -> Callable[[bytes, Path], bytes]:
    def edited(content: bytes, _: Path) -> bytes:
        form = json.loads(content)
        change(form)
        return json.dumps(form).encode()

    return edited


def _sneak(text: str) -> str:
    return f"__import__('os').mkdir({text!r})"


ATTACKS: dict[str, tuple[str, Callable[[bytes, Path], bytes]]] = {
    "pickled weight": (
        "data/weights/model_weights_config.json",
        lambda content, _: content.replace(b'"use_pickle": false', b'"use_pickle": true'),
    ),
    "pickled sample input": ("data/sample_inputs/model.pt", lambda _, trap: pickled(trap)),
    "expression": (
        "models/model.json",
        lambda content, trap: content.replace(b"Symbol('", b"__import__('os').mkdir('" + str(trap).encode(), 1),
    ),
    "operator": (
        "models/model.json",
        lambda content, _: content.replace(b"torch.ops.aten.relu.default", b"torch.hub.load"),
    ),
    "file operator": (
        "models/model.json",
        lambda content, _: content.replace(b"torch.ops.aten.relu.default", b"torch.ops.aten.from_file.default"),
    ),
    "name": (
        "models/model.json",
        lambda content, _: content.replace(b'"relu"', json.dumps(_sneak("x") + ";").encode()),
    ),
    "tree type": (
        "models/model.json",
        lambda content, _: content.replace(b"builtins.tuple", b"collections.OrderedDict", 1),
    ),
}


@pytest.mark.parametrize("kind", ATTACKS)
def test_an_export_that_holds_more_than_a_graph_is_refused(tmp_path: Path, exported: Path, kind: str) -> None:
    member, change = ATTACKS[kind]
    trap = tmp_path / "sprung"
    changed: list[bool] = []

    def one(name: str, content: bytes) -> bytes:
        if name != member:
            return pickled(trap) if kind == "pickled weight" and name.endswith("weight_0") else content
        found = change(content, trap)
        changed.append(found != content)
        return found

    rewrite(exported, tmp_path / "bad.pt2", one)
    assert changed == [True]
    with pytest.raises(EvaluationError, match="more than a graph"):
        load_model(tmp_path / "bad.pt2")
    assert not trap.exists()


def test_guards_in_an_export_are_not_run(tmp_path: Path, exported: Path) -> None:
    trap = tmp_path / "sprung"
    guard = _edit(lambda form: form.update(guards_code=[_sneak(str(trap))]))
    rewrite(exported, tmp_path / "a.pt2", lambda n, c: guard(c, trap) if n == "models/model.json" else c)
    assert load_model(tmp_path / "a.pt2").module(images(3)).shape == (3, CLASSES)
    assert not trap.exists()


class _Writes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "sprung")
        return x.flatten(1)


class _Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Identity(), _Writes()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.inner:
            x = layer(x)
        return x


class _Restored(nn.Module):
    """Runs while it is loaded."""

    @torch.jit.export
    def __getstate__(self) -> tuple[int, bool]:
        return 1, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        self.training = state[1]
        torch.save(torch.zeros(1), "sprung")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


SCRIPTS: dict[str, tuple[nn.Module, Callable[[bytes], bytes], str]] = {
    "save": (_Writes(), lambda source: source, r"calls torch\.save"),
    "spaces": (_Writes(), lambda source: source.replace(b"torch.save", b"torch . save"), r"calls torch\.save"),
    "alias": (_Writes(), lambda source: source.replace(b"torch.save(", b"ops.aten.save("), r"calls torch\.save"),
    "method": (
        _Writes(),
        lambda source: source.replace(b'torch.save(x, "sprung")', b'x.save("sprung")'),
        r"torch\.save",
    ),
    "a layer": (_Deep(), lambda source: source, r"calls torch\.save"),
    "restored": (_Restored(), lambda source: source, r"calls torch\.save .*__setstate__"),
    "default value": (
        nn.Flatten(),
        lambda source: source.replace(b"input: Tensor", b'input: Tensor, y: Tensor=torch.from_file("sprung", True, 9)'),
        "default value",
    ),
    "comment": (nn.Flatten(), lambda source: source.replace(b"  return", b"  # x\n    return"), "does not write"),
    "other class": (
        nn.Flatten(),
        lambda source: source.replace(b"training : bool", b"training : __torch__.torch.classes.dist_c10d.Store"),
        "cannot compile|dist_c10d",
    ),
}


@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_script_that_does_more_than_compute_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    module, change, match = SCRIPTS[kind]
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path / "made")
    scripted = torch.jit.script(module)
    monkeypatch.chdir(tmp_path)
    torch.jit.save(scripted, "good.pt")
    shutil.rmtree("made")
    Path("sprung").unlink(missing_ok=True)  # __setstate__ also runs where it is compiled
    changed = {name: change(content) for name, content in records(Path("good.pt")) if name.endswith(".py")}
    rewrite(Path("good.pt"), Path("bad.pt"), lambda name, content: changed.get(name, content))
    with pytest.raises(EvaluationError, match=match):
        load_model("bad.pt", input_shape=SHAPE)
    assert not Path("sprung").exists()


def test_a_script_pickle_that_names_python_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Flatten()), str(tmp_path / "good.pt"))
    bad = b"\x80\x02cos\nmkdir\n(X\x06\x00\x00\x00sprungtR."
    for member in ("data.pkl", "constants.pkl"):
        rewrite(tmp_path / "good.pt", tmp_path / "bad.pt", lambda n, c, m=member: bad if n == m else c)
        with pytest.raises(EvaluationError, match=r"names os\.mkdir"):
            load_model(tmp_path / "bad.pt", input_shape=SHAPE)


CARDS: dict[str, dict[str, object]] = {
    "a program": {"architecture": "os:system", "options": {"command": "touch sprung"}},
    "a module": {"architecture": "fresh:net"},
    "a method": {"architecture": "torchvision:models.get_model"},
    "a path": {"architecture": "torchvision:resnet18", "options": {"weights": "DEFAULT"}},
    "a download": {"architecture": "torchvision:resnet18", "options": {"pretrained": True}},
    "a url": {"architecture": "cnn", "options": {"activation": "https://example.org/x"}},
    "a table": {"architecture": "cnn", "options": {"widths": {"a": 1}}},
    "deep": {"architecture": "cnn", "options": {"widths": [[[[[1]]]]]}},
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kind", CARDS)
def test_a_card_does_not_choose_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, suffix: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fresh.py").write_text("open('sprung', 'w').close()\ndef net(**_):\n    raise ValueError\n")
    text = json.dumps({"input_shape": SHAPE, "num_classes": CLASSES, **CARDS[kind]})
    state = small_net().state_dict()
    path = tmp_path / f"a{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": state, "robcert_card": text}, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path, metadata={"robcert": text})
    with pytest.raises(RobcertError) as caught:
        load_model(path)
    assert str(path) in str(caught.value) or "torchvision" in str(caught.value)
    assert not Path("sprung").exists()


def test_links_do_not_lead_what_is_written_elsewhere(tmp_path: Path) -> None:
    aim = tmp_path / "aim"
    aim.write_text("kept")
    (tmp_path / ".a.safetensors.tmp").symlink_to(aim)
    (tmp_path / "a.safetensors").symlink_to(aim)
    save_model(small_net(), Card(architecture="cnn"), tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").is_symlink()
    assert aim.read_text() == "kept"


def test_weights_without_their_architecture_say_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(small_net().state_dict(), path)
    with pytest.raises(UsageError) as caught:
        load_model(path)
    assert f"robcert attack {path} --arch torchvision:resnet18 --data npz:images.npz" in str(caught.value)
    assert "--norm l2 --eps 1.5" in str(caught.value)


def test_weights_that_do_not_fit_are_named(tmp_path: Path, factory: str) -> None:
    state = small_net().state_dict()
    state["0.weight"] = torch.zeros(4, 1, 5, 5)
    state["9.weight"] = state.pop("3.weight")
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(EvaluationError) as caught:
        load_model(tmp_path / "a.pt", arch=factory, input_shape=SHAPE)
    assert "1 missing: 3.weight" in caught.value.found
    assert "1 unexpected: 9.weight" in caught.value.found
    assert "0.weight is (4, 1, 5, 5), expected (4, 1, 3, 3)" in caught.value.found


@pytest.mark.parametrize(
    ("arch", "match", "code"),
    [
        ("cn", "Did you mean 'cnn'", 2),
        ("nomodule:make", "no Python module 'nomodule'", 2),
        ("mynets:smal", "Did you mean 'small'", 2),
        ("mynets:broken", "RuntimeError: no such file", 3),
        ("mynets:number", "returned a int", 3),
    ],
)
def test_a_wrong_architecture(tmp_path: Path, factory: str, arch: str, match: str, code: int) -> None:
    torch.save(small_net().state_dict(), tmp_path / "a.pt")
    with pytest.raises(RobcertError) as caught:
        load_model(tmp_path / "a.pt", arch=arch, input_shape=SHAPE)
    assert match in str(caught.value)
    assert caught.value.exit_code == code


def test_nan_weights_name_their_tensor(tmp_path: Path, factory: str) -> None:
    net = small_net()
    with torch.no_grad():
        net[0].bias[1] = float("inf")
    path = save_model(net, Card(architecture=factory, input_shape=SHAPE), tmp_path / "a.safetensors")
    with pytest.raises(EvaluationError, match=r"1 of 4 values of '0\.bias'"):
        load_model(path, arch=factory)


def test_a_card_with_a_wrong_key_names_the_right_one(tmp_path: Path, factory: str) -> None:
    from safetensors.torch import save_file

    save_file(small_net().state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "model.toml").write_text("num_clases = 3\n")
    with pytest.raises(EvaluationError, match="Did you mean 'num_classes'") as caught:
        load_model(tmp_path)
    assert "unknown key 'num_clases'" in str(caught.value)
    for text, match in (
        ("name = ", "is not TOML"),
        ("num_classes = 1\n", "num_classes"),
        ("std = [0]\n", "positive"),
    ):
        (tmp_path / "model.toml").write_text(text)
        with pytest.raises(EvaluationError, match=match):
            peek_card(tmp_path)


def _files(folder: Path, exported: Path) -> dict[str, Path]:
    net = small_net()
    card = Card(architecture="mynets:small", input_shape=SHAPE, num_classes=CLASSES)
    files = {
        "safetensors": save_model(net, card, folder / "a.safetensors"),
        "zip": save_model(net, card, folder / "a.pt"),
        "legacy": folder / "legacy.pt",
        "script": folder / "script.pt",
        "export": folder / "export.pt2",
    }
    torch.save(net.state_dict(), files["legacy"], _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(net), str(files["script"]))
    shutil.copy(exported, files["export"])
    return files


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy", "script", "export"])
def test_truncated_and_damaged_files_end_in_a_network_or_one_error(
    tmp_path: Path, factory: str, exported: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    good = _files(tmp_path, exported)[kind].read_bytes()
    draw = random.Random(kind)
    path = tmp_path / "mutated"
    refusals = 0
    for number in range(60):
        content = bytearray(good)
        if number % 3 == 0:
            del content[draw.randrange(len(content)) :]
        else:
            for _ in range(draw.choice((1, 4, 32))):
                content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content)
        try:
            model = load_model(path, arch=factory, input_shape=SHAPE)
        except RobcertError:
            refusals += 1
        else:
            assert model.module(images(2)).shape == (2, model.num_classes)
    assert refusals >= 20  # every truncation, at least
    assert capfd.readouterr().err == ""
