"""One picture file as numbers, whatever its mode: what is read is what was stored, or the file is refused."""

from __future__ import annotations

import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from robcert.errors import EvaluationError, RobcertError, first_line

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp"}
)
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""The formats of these suffixes: Pillow knows forty more, and tries them on any file."""

TURNED = "turned as their EXIF orientation says (torchvision's ImageFolder does not)"
OPAQUE = "with transparency: it was dropped, as torchvision's ImageFolder does"
FIRST_FRAME = "of several frames: the first was taken"
CONVERTED = "in CMYK or Lab colours, converted to RGB without a colour profile"

_GREY = frozenset({"1", "L", "LA", "La"})
_SIXTEEN = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_PROFILED = frozenset({"CMYK", "LAB"})
_ORIENTATION, _BITS, _PHOTOMETRIC = 274, 258, 262
_NATIVE, _OTHER = ("L", "B") if sys.byteorder == "little" else ("B", "L")
# Pillow keeps the upper byte of a colour with 16 bits; read in the other byte order it keeps the lower one.
_LOWER = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("L", "B"), ("B", "L"), ("N", _OTHER))
}
_TURNS: dict[int, Any] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: np.rot90(x, 1),
}


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        pixels: (height, width, 1 or 3); uint8, or float32 in [0, 1] where the file has more than 8 bits a channel.
        happened: what was done to it: some of `TURNED`, `OPAQUE`, `FIRST_FRAME`, `CONVERTED`.
    """

    pixels: Any
    happened: tuple[str, ...] = ()


def read_picture(path: Path) -> Picture:
    """Return the picture in a file: grey where it is stored as grey, else RGB.

    Raises:
        EvaluationError: the file is no picture, or holds values of which it is not known what is white.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                return _read(path, picture)
    except RobcertError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        text = first_line(error)
        raise EvaluationError(f"{path} is no image that can be read: {text}", "Repair or remove it.") from error


def decode(picture: Image.Image) -> Picture:
    """Return a picture of up to 8 bits a channel, or of one channel and any depth, in every mode of Pillow.

    Raises:
        EvaluationError: its integers or floats have no known white.
    """
    mode, happened = picture.mode, (CONVERTED,) if picture.mode in _PROFILED else ()
    if mode in _SIXTEEN or mode in ("I", "F"):
        return Picture(_deep(picture)[..., None], (OPAQUE,) if "transparency" in picture.info else ())
    if picture.has_transparency_data:
        picture = picture.convert("LA" if mode == "La" else "RGBA")
        if _lowest(picture.getchannel("A")) < 255:
            happened += (OPAQUE,)
        # Grey stays exactly what it is: its three channels are equal.
        picture = picture.getchannel(0) if mode in _GREY else picture.convert("RGB")
    pixels = np.array(picture.convert("L" if mode in _GREY else "RGB"))
    return Picture(pixels[..., None] if pixels.ndim == 2 else pixels, happened)


def _read(path: Path, picture: Image.Image) -> Picture:
    lower = _lower_bytes(path, picture)  # first: Pillow may load a picture to see how it is turned
    frames = (FIRST_FRAME,) if getattr(picture, "n_frames", 1) > 1 else ()
    turn = _orientation(picture)
    if lower is None:
        found = decode(picture)
    else:
        high = np.array(picture.convert("RGBA" if picture.mode == "RGBA" else "RGB"))
        deep = (256 * high.astype(np.uint16) + lower) / np.float32(65535)
        transparent = "transparency" in picture.info or (deep.shape[2] == 4 and float(deep[..., 3].min()) < 1)
        found = Picture(deep[..., :3], (OPAQUE,) if transparent else ())
    pixels, turned = found.pixels, ()
    if turn in _TURNS:
        turned = (TURNED,)
        if _orientation(picture) == turn:  # Pillow turns a TIFF itself, and then forgets its orientation
            pixels = _TURNS[turn](pixels)
    return Picture(np.ascontiguousarray(pixels), (*turned, *found.happened, *frames))


def _lower_bytes(path: Path, picture: Image.Image) -> Any:
    """The lower bytes of a picture of several channels with 16 bits, which Pillow reads as their upper bytes; or None.

    Raises:
        EvaluationError: it has more than 8 bits a channel in a form of which Pillow gives no more than the upper bytes.
    """
    tiles = picture.__dict__.get("tile", ())
    raw = [str(tile[3] if isinstance(tile[3], str) else tile[3][0]) for tile in tiles]
    bits = max((int(bits) for bits in getattr(picture, "tag_v2", {}).get(_BITS, (8,))), default=8)
    if picture.format == "PPM" and tiles and tiles[0][0].startswith("ppm"):
        bits = 16 if int(tiles[0][3][1]) > 255 else 8
    if picture.mode in _SIXTEEN or picture.mode in ("I", "F"):
        return None
    if bits <= 8 and not any(re.search(r";16[BLN]$", name) for name in raw):
        return None
    if not all(name in _LOWER for name in raw):
        raise EvaluationError(
            f"{path} has more than 8 bits a channel in a form that is not read in full ({', '.join(set(raw))})",
            "Save it as RGB or grey with 8 or 16 bits a channel, or use npz:PATH.",
        )
    with Image.open(path, formats=FORMATS) as again:
        swapped: Any = again
        swapped.tile = [_reread(tile, _LOWER[name]) for tile, name in zip(tiles, raw, strict=True)]
        return np.array(again.convert("RGBA" if again.mode == "RGBA" else "RGB"))


def _reread(tile: Any, raw: str) -> Any:
    """A part of a file that is to be decoded as another raw mode."""
    changed = (*tile[:3], raw if isinstance(tile[3], str) else (raw, *tile[3][1:]))
    return type(tile)(*changed) if hasattr(tile, "_fields") else changed


def _deep(picture: Image.Image) -> Any:
    """One channel of more than 8 bits, as float32 in [0, 1].

    Raises:
        EvaluationError: what is white is not known.
    """
    tags = getattr(picture, "tag_v2", {})
    values = np.array(picture)
    if picture.mode in _SIXTEEN or picture.format in ("PNG", "PPM"):
        bits = min(16, max((int(bits) for bits in tags.get(_BITS, (16,))), default=16))
        x = values.astype(np.float32) / np.float32(2**bits - 1)
    elif picture.mode == "F" and np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1:
        x = values.astype(np.float32)
    else:
        kind = "32-bit or signed integers" if picture.mode == "I" else "floats"
        raise EvaluationError(
            f"{getattr(picture, 'filename', '') or 'a picture'} holds {kind} from {values.min():.8g} to "
            f"{values.max():.8g}, and which of them is white is not known",
            "Save it with 8 or 16 bits a channel, as floats in [0, 1], or use npz:PATH.",
        )
    return 1 - x if tags.get(_PHOTOMETRIC) == 0 else x  # a TIFF may count from white


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation of a picture; 1, upright, where its data do not say so or are damaged."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # as viewers do: the pixels do not depend on it
        return 1


def _lowest(channel: Image.Image) -> float:
    return float(np.asarray(channel).min())
