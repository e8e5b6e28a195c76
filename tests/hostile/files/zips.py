"""Archives that two readers read differently, that name places outside, or that are larger inside than outside."""

from __future__ import annotations

import io
import pickle
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import torch

from tests.hostile.files.good import good_pt2, good_script, members, weights
from tests.hostile.files.pickles import Reduce
from tests.hostile.table import NORMS, SHAPED, Place, hostile

APPNOTE = "PKWARE APPNOTE 4.3: the central directory and local headers"
ZIPFILE = "docs.python.org/3/library/zipfile.html"


def good_weights() -> dict[str, bytes]:
    out = io.BytesIO()
    torch.save(weights(), out)
    return members(out.getvalue())


def bad_weights(place: Place) -> dict[str, bytes]:
    return {**good_weights(), "data.pkl": pickle.dumps(Reduce(exec, place.code), 2)}


def entries(path: Path, parts: list[tuple[str, bytes]], folder: str = "archive") -> Path:
    """An archive with members in this order, of equal names too."""
    with zipfile.ZipFile(path, "w") as out:
        for name, body in parts:
            out.NameToInfo.pop(f"{folder}/{name}", None)
            out.writestr(f"{folder}/{name}", body)
    return path


def two_directories(path: Path, shown: dict[str, bytes], real: dict[str, bytes], folder: str = "archive") -> Path:
    """Two central directories: Python takes the one before the end record, torch the one at the offset that it says."""
    body, directories = b"", []
    for files in (real, shown):
        directory = b""
        for name, content in files.items():
            full = f"{folder}/{name}".encode()
            common = struct.pack(
                "<HHHHHIIIHH", 20, 0, 0, 0, 33, zlib.crc32(content), len(content), len(content), len(full), 0
            )
            directory += (
                b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + full
            )
            body += b"PK\3\4" + common + full + content
        directories.append((directory, len(files)))
    (real_one, count), (shown_one, other) = directories
    assert count == other
    # As long as one another, so that one end record fits both; a comment of a member may make up the difference.
    longest = max(len(real_one), len(shown_one))
    real_one, shown_one = (_padded(one, longest) for one in (real_one, shown_one))
    # Python moves every offset by the distance between the two directories.
    shown_one = _moved(shown_one, -longest)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, longest, len(body), 0)
    path.write_bytes(body + real_one + shown_one + end)
    return path


def _padded(directory: bytes, length: int) -> bytes:
    missing = length - len(directory)
    last = directory.rindex(b"PK\1\2")
    return directory[: last + 32] + struct.pack("<H", missing) + directory[last + 34 :] + bytes(missing)


def _moved(directory: bytes, by: int) -> bytes:
    out, at = bytearray(directory), 0
    while at < len(out):
        name, extra, comment = struct.unpack_from("<HHH", out, at + 28)
        (offset,) = struct.unpack_from("<I", out, at + 42)
        struct.pack_into("<I", out, at + 42, offset + by)
        at += 46 + name + extra + comment
    return bytes(out)


@hostile("zip-two-members-first", "zip", "data.pkl twice, the first one a call", APPNOTE, loads=True, docs=True)  # fmt: skip
def _(place: Place) -> Path:
    good, bad = good_weights(), bad_weights(place)
    parts = [("data.pkl", bad["data.pkl"]), *good.items()]
    return entries(place.files / "model.pt", parts)


@hostile(
    "zip-two-members-last",
    "zip",
    "data.pkl twice, the last one a call",
    APPNOTE,
    loads=True,
    docs=True,
)
def _(place: Place) -> Path:
    good, bad = good_weights(), bad_weights(place)
    return entries(place.files / "model.pt", [*good.items(), ("data.pkl", bad["data.pkl"])])


@hostile("zip-case", "zip", "DATA.PKL, which torch finds as data.pkl", "torch/csrc: names are compared without case", control="torch_load")  # fmt: skip
def _(place: Place) -> Path:
    files = bad_weights(place)
    parts = [("DATA.PKL" if name == "data.pkl" else name, body) for name, body in files.items()]
    return entries(place.files / "model.pt", parts)


@hostile("zip-local-name", "zip", "data.pkl is called readme where its bytes are", APPNOTE, control="torch_load", docs=True)  # fmt: skip
def _(place: Place) -> Path:
    path = entries(place.files / "model.pt", list(bad_weights(place).items()))
    body = path.read_bytes()
    at = body.index(b"archive/data.pkl")
    path.write_bytes(body[:at] + b"archive/read.txt" + body[at + 16 :])
    return path


@hostile("zip-two-directories", "zip", "Python sees weights, torch a call", APPNOTE, control="torch_load", loads=True)
def _(place: Place) -> Path:
    return two_directories(place.files / "model.pt", good_weights(), bad_weights(place))


@hostile("zip-two-directories-pt2", "zip", "Python sees a program, torch one with guards that are code", APPNOTE, control="pt2", loads=True, argv=NORMS)  # fmt: skip
def _(place: Place) -> Path:
    import json

    good = members(good_pt2())
    program = json.loads(good["models/model.json"]) | {"guards_code": [place.code]}
    bad = {**good, "models/model.json": json.dumps(program).encode()}
    return two_directories(place.files / "model.pt2", good, bad)


@hostile("zip-two-directories-script", "zip", "Python sees a network, torch one that saves", APPNOTE, control="jit", loads=True, argv=SHAPED)  # fmt: skip
def _(place: Place) -> Path:
    from tests.hostile.files.torchscript import script

    bad = members(script(place, f'torch.save(input, "{place.evidence}")').read_bytes())
    return two_directories(place.files / "model.pt", members(good_script()), bad, "model")


@hostile("zip-two-programs", "zip", "models/model.json twice, the last with guards that are code", APPNOTE, control="pt2", loads=True, argv=NORMS)  # fmt: skip
def _(place: Place) -> Path:
    import json

    good = members(good_pt2())
    program = json.loads(good["models/model.json"]) | {"guards_code": [place.code]}
    return entries(place.files / "model.pt2", [*good.items(), ("models/model.json", json.dumps(program).encode())])


@hostile("zip-deflated", "zip", "the pickle of a call, compressed", ZIPFILE, control="torch_load")
def _(place: Place) -> Path:
    path = place.files / "model.pt"
    with zipfile.ZipFile(path, "w") as out:
        for name, body in bad_weights(place).items():
            method = zipfile.ZIP_DEFLATED if name == "data.pkl" else zipfile.ZIP_STORED
            out.writestr(f"archive/{name}", body, compress_type=method)
    return path


@hostile("zip-first-folder", "zip", "two folders: torch reads the one that comes first", "torch/csrc: the archive's name is that of its first member")  # fmt: skip
def _(place: Place) -> Path:
    path = place.files / "model.pt"
    with zipfile.ZipFile(path, "w") as out:
        for folder, files in (("evil", bad_weights(place)), ("archive", good_weights())):
            for name, body in files.items():
                out.writestr(f"{folder}/{name}", body)
    return path


def outside(place: Place, name: str, link: str = "") -> Path:
    path = entries(place.files / "model.pt", list(good_weights().items()))
    with zipfile.ZipFile(path, "a") as out:
        if link:
            info = zipfile.ZipInfo("archive/extra")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            out.writestr(info, link)
        out.writestr(name, b"written")
    return path


@hostile("zip-absolute", "zip", "a member whose name is an absolute path", ZIPFILE + ": extract", control="extract", loads=True, docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return outside(place, place.evidence)


@hostile("zip-parent", "zip", "a member whose name climbs out with ..", ZIPFILE + ": extract", control="extract", loads=True, docs=True)  # fmt: skip
def _(place: Place) -> Path:
    return outside(place, "archive/../../canary/ran")


@hostile("zip-symlink", "zip", "a member that is a link, and another behind it", ZIPFILE, control="extract", loads=True)
def _(place: Place) -> Path:
    return outside(place, "archive/extra/ran", str(Path(place.evidence).parent))


@hostile("zip-pt2-parent", "zip", "a weight of a .pt2 whose member climbs out", ZIPFILE + ": extract", control="extract", loads=True, argv=NORMS)  # fmt: skip
def _(place: Place) -> Path:
    path = place.files / "model.pt2"
    with zipfile.ZipFile(path, "w") as out:
        for name, body in members(good_pt2()).items():
            out.writestr(f"archive/{name}", body)
        out.writestr("archive/extra/../../../canary/ran", b"written")
    return path


@hostile("zip-bomb", "zip", "a quarter of a gigabyte of zeros", "the zip bomb 42.zip", cost=True, docs=True)
def _(place: Place) -> Path:
    path = place.files / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for name, body in good_weights().items():
            out.writestr(f"archive/{name}", bytes(1 << 28) if name == "data/0" else body)
    return path


@hostile("zip-overlap", "zip", "a thousand members that share their bytes", "bamsoftware.com zipbomb", cost=True, docs=True)  # fmt: skip
def _(place: Place) -> Path:
    content = zlib.compress(bytes(1 << 20), 9)[2:-4]
    crc = zlib.crc32(bytes(1 << 20))
    body, directory = b"", b""
    for k in range(1000):
        name = f"archive/data/{k}".encode()
        common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, len(content), 1 << 20, len(name), 0)
        if k == 0:
            body = b"PK\3\4" + common + name + content
        directory += b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1000, 1000, len(directory), len(body), 0)
    path = place.files / "model.pt"
    path.write_bytes(body + directory + end)
    return path


@hostile("zip-terminal", "zip", "members whose names clear the terminal", "xterm ctlseqs: control sequences", docs=True)
def _(place: Place) -> Path:
    return entries(place.files / "model.pt", [("\x1b[2J\x1b]0;owned\x07", b"x"), ("\x9b2J", b"x")])
