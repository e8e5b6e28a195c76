"""Picture files of kinds that Pillow reads and does not write: 16 bits a channel, other byte orders, other layouts."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels -> colour type of a PNG."""


def write_png(path: Path, pixels: NDArray[np.integer]) -> Path:
    """(height, width, channels), uint8 or uint16."""
    bits = 8 * pixels.dtype.itemsize
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, _COLOUR[channels], 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def write_tiff(
    path: Path,
    pixels: NDArray[np.generic],
    order: str = "<",
    *,
    photometric: int | None = None,
    planar: bool = False,
    extra: int | None = None,
    orientation: int = 1,
    bits: int | None = None,
) -> Path:
    """(height, width, channels) of any integer or float dtype, in the byte order "<" or ">"."""
    height, width, channels = pixels.shape
    kind = pixels.dtype.newbyteorder(order)  # type: ignore[arg-type]
    content = (np.moveaxis(pixels, 2, 0) if planar else pixels).astype(kind).tobytes()
    bits = bits or 8 * pixels.dtype.itemsize
    if bits == 12:  # two values in three bytes
        flat = pixels.reshape(-1, 2).astype(np.uint32)
        content = b"".join(int((a << 12) | b).to_bytes(3, "big") for a, b in flat)
    sample = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    strips = channels if planar else 1
    where = 8
    entries: list[tuple[int, int, list[int]]] = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [bits] * channels),
        (259, 3, [1]),
        (262, 3, [photometric if photometric is not None else (2 if channels >= 3 else 1)]),
        (273, 4, [where + k * (len(content) // strips) for k in range(strips)]),
        (274, 3, [orientation]),
        (277, 3, [channels]),
        (278, 4, [height]),
        (279, 4, [len(content) // strips] * strips),
        (284, 3, [2 if planar else 1]),
        *([(338, 3, [extra])] if extra is not None else []),
        (339, 3, [sample] * channels),
    ]
    content += b"\0" * (len(content) % 2)
    directory = where + len(content)
    beyond = directory + 2 + 12 * len(entries) + 4
    table, long = struct.pack(f"{order}H", len(entries)), b""
    for tag, form, values in entries:
        packed = struct.pack(f"{order}{len(values)}{'H' if form == 3 else 'I'}", *values)
        table += struct.pack(f"{order}HHI", tag, form, len(values))
        if len(packed) <= 4:
            table += packed.ljust(4, b"\0")
        else:
            table += struct.pack(f"{order}I", beyond + len(long))
            long += packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, directory)
    path.write_bytes(head + content + table + struct.pack(f"{order}I", 0) + long)
    return path
