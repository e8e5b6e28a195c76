"""A picture is read as it was stored, whatever its mode, or refused: it is never cut to 8 bits or turned in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from written import write_png, write_tiff

from robcert.data.picture import CONVERTED, FIRST_FRAME, OPAQUE, TURNED, decode, read_picture
from robcert.errors import EvaluationError

HEIGHT, WIDTH = 5, 6
DRAW = np.random.RandomState(0)
DEEP = DRAW.randint(0, 65536, (HEIGHT, WIDTH, 4)).astype(np.uint16)
BYTES = DRAW.randint(0, 256, (HEIGHT, WIDTH, 4)).astype(np.uint8)
RGB = Image.fromarray(BYTES[..., :3])
GREY = Image.fromarray(BYTES[..., 0])


def deep(path: Path, expected: np.ndarray) -> None:
    found = read_picture(path).pixels
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.array_equal(np.rint(found * 65535), expected), "every one of the 16 bits is there"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("form", ["png", "tiff"])
def test_sixteen_bits_stay_sixteen(tmp_path: Path, form: str, channels: int, order: str) -> None:
    path = tmp_path / f"a.{form}"
    pixels = DEEP[..., :channels]
    if form == "png":
        write_png(path, pixels)
    else:
        write_tiff(path, pixels, order, extra=2 if channels == 4 else None)
    deep(path, pixels[..., :3])
    assert read_picture(path).happened == ((OPAQUE,) if channels == 4 else ())


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_every_byte_order_of_grey(tmp_path: Path, mode: str, compression: str | None) -> None:
    stored = DEEP[..., 0].astype(">u2" if mode == "I;16B" else "<u2" if mode != "I;16N" else "=u2")
    picture = Image.frombytes(mode, (WIDTH, HEIGHT), stored.tobytes())
    assert np.array_equal(np.rint(decode(picture).pixels[..., 0] * 65535), DEEP[..., 0])
    if mode in ("I;16", "I;16B"):
        picture.save(tmp_path / "a.tif", compression=compression)
        deep(tmp_path / "a.tif", DEEP[..., :1])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_a_compressed_tiff_of_sixteen_bits_and_three_channels(tmp_path: Path, compression: str) -> None:
    """Pillow cannot write one, so a raw one is rewritten byte for byte: the strip deflated by hand."""
    raw = write_tiff(tmp_path / "raw.tif", DEEP[..., :3])
    if compression == "tiff_lzw":
        deep(raw, DEEP[..., :3])
        return
    import zlib

    packed = zlib.compress(DEEP[..., :3].astype("<u2").tobytes())
    content = bytearray(raw.read_bytes())
    start = len(content)
    content += packed
    for tag, value in ((259, 8), (273, start), (279, len(packed))):
        place = content.index(tag.to_bytes(2, "little"), 8 + DEEP[..., :3].nbytes)
        content[place + 8 : place + 12] = value.to_bytes(4, "little")
    (tmp_path / "packed.tif").write_bytes(bytes(content))
    deep(tmp_path / "packed.tif", DEEP[..., :3])


def test_white_is_what_the_file_says(tmp_path: Path) -> None:
    twelve = (DEEP[..., :1] >> 4).astype(np.uint16)
    found = read_picture(write_tiff(tmp_path / "12.tif", twelve, bits=12)).pixels
    assert np.allclose(found, twelve / 4095), "white is 4095 in 12 bits"
    inverted = read_picture(write_tiff(tmp_path / "0.tif", DEEP[..., :1], photometric=0)).pixels
    assert np.allclose(inverted, 1 - DEEP[..., :1] / 65535), "0 is white where the file says so"
    (tmp_path / "a.pgm").write_bytes(b"P5 6 5 1000\n" + (DEEP[..., 0] % 1001).astype(">u2").tobytes())
    scaled = read_picture(tmp_path / "a.pgm").pixels[..., 0]
    assert np.allclose(scaled, (DEEP[..., 0] % 1001) / 1000, atol=1e-5)
    floats = (DEEP[..., :1] / 65535).astype(np.float32)
    assert np.array_equal(read_picture(write_tiff(tmp_path / "f.tif", floats)).pixels, floats)
    bits = Image.fromarray(BYTES[..., 0] > 127)
    bits.save(tmp_path / "1.png")
    assert np.array_equal(read_picture(tmp_path / "1.png").pixels[..., 0], 255 * (BYTES[..., 0] > 127))


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda p: write_tiff(p, DEEP[..., :1].astype(np.int32)), "32-bit or signed integers from"),
        (lambda p: write_tiff(p, (DEEP[..., :1] >> 1).astype(np.int16)), "signed integers"),
        (lambda p: write_tiff(p, (DEEP[..., :1] / 255).astype(np.float32)), "floats from"),
        (lambda p: write_tiff(p, np.full((HEIGHT, WIDTH, 1), np.nan, np.float32)), "floats from nan"),
        (lambda p: write_tiff(p, DEEP[..., :3], planar=True), "more than 8 bits a channel"),
        (lambda p: write_tiff(p, DEEP, extra=1), "more than 8 bits a channel"),
        (lambda p: write_tiff(p, DEEP, photometric=5), "more than 8 bits a channel"),
        (lambda p: write_png(p, DEEP[..., :2]), "more than 8 bits a channel"),
        (lambda p: p.write_bytes(b"P6 6 5 65535\n" + DEEP[..., :3].astype(">u2").tobytes()), "more than 8 bits"),
    ],
)
def test_what_cannot_be_read_in_full_is_refused(tmp_path: Path, write: object, says: str) -> None:
    path = tmp_path / "picture.tif"
    write(path)  # type: ignore[operator]
    with pytest.raises(EvaluationError, match=says) as caught:
        read_picture(path)
    assert "picture.tif" in caught.value.found
    assert "npz:PATH" in caught.value.do


@pytest.mark.parametrize("mode", ["RGB", "RGBX", "RGBA", "RGBa", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB"])
def test_colours_of_every_mode(mode: str) -> None:
    if mode == "LAB":
        picture = Image.merge("LAB", [Image.new("L", (WIDTH, HEIGHT), v) for v in (150, 128, 128)])
        expected, far = np.full((HEIGHT, WIDTH, 3), 141), 4  # L* = 59 without colour is the grey 141 of sRGB
    else:
        source = RGB.convert("RGBA") if mode in ("RGBa", "PA") else RGB
        picture = source.convert("P").convert("PA") if mode == "PA" else source.convert(mode)
        # The loss is that of the mode itself: a palette has 256 colours, YCbCr and HSV round.
        expected = np.array(
            picture.convert("RGBA").convert("RGB") if mode in ("PA", "RGBa") else picture.convert("RGB")
        )
        far = 0
    found = decode(picture)
    assert found.pixels.dtype == np.uint8
    assert np.abs(found.pixels.astype(int) - expected).max() <= far
    assert np.abs(expected.astype(int) - BYTES[..., :3]).mean() < 60 or mode == "LAB", "it is still that picture"
    assert found.happened == ((CONVERTED,) if mode in ("CMYK", "LAB") else ())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La"])
def test_grey_of_every_mode(mode: str) -> None:
    picture = GREY.convert("LA").convert("La") if mode == "La" else GREY.convert(mode)
    found = decode(picture)
    expected = np.array(GREY.convert("1")) * 255 if mode == "1" else BYTES[..., 0]
    assert found.pixels.shape == (HEIGHT, WIDTH, 1)
    assert np.array_equal(found.pixels[..., 0], expected)
    assert found.happened == ()


def transparent(mode: str) -> Image.Image:
    alpha = Image.fromarray(BYTES[..., 3])
    if mode == "P":
        picture = RGB.convert("P")
        picture.info["transparency"] = int(np.array(picture)[0, 0])
        return picture
    if mode in ("RGB", "L"):
        picture = RGB.copy() if mode == "RGB" else GREY.copy()
        first = BYTES[0, 0, :3] if mode == "RGB" else BYTES[0, 0, :1]
        picture.info["transparency"] = tuple(map(int, first)) if mode == "RGB" else int(first[0])
        return picture
    picture = (GREY if mode in ("LA", "La") else RGB).convert("LA" if mode in ("LA", "La") else "RGBA")
    picture.putalpha(alpha)
    return picture.convert(mode)


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa", "P", "RGB", "L"])
def test_transparency_is_dropped_and_said(mode: str) -> None:
    found = decode(transparent(mode))
    assert found.happened == (OPAQUE,)
    assert found.pixels.shape[2] == (1 if mode in ("LA", "La", "L") else 3)
    if mode in ("RGBA", "RGB"):
        assert np.array_equal(found.pixels, BYTES[..., :3]), "what torchvision's ImageFolder sees"


def test_full_opacity_is_no_transparency(tmp_path: Path) -> None:
    RGB.convert("RGBA").save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").happened == ()


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_is_applied(tmp_path: Path, suffix: str, turn: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 200  # one bright corner: seen wherever the picture is turned to
    inverse = {5: 5, 6: 8, 7: 7, 8: 6}.get(turn, turn)
    moves = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
        8: lambda x: np.rot90(x, 1),
    }
    stored = np.ascontiguousarray(moves[inverse](upright))
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        write_tiff(path, stored, orientation=turn)
    else:
        exif = Image.Exif()
        exif[274] = turn
        Image.fromarray(stored).save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    found = read_picture(path)
    assert found.pixels.shape == (16, 24, 3)
    assert np.abs(found.pixels.astype(int) - upright).max() < 30, "JPEG may round"
    assert found.happened == ((TURNED,) if turn > 1 else ())


@pytest.mark.parametrize("turn", [3, 6])
def test_orientation_of_sixteen_bits(tmp_path: Path, turn: int) -> None:
    found = read_picture(write_tiff(tmp_path / "a.tif", DEEP[..., :3], orientation=turn))
    expected = np.rot90(DEEP[..., :3], 2) if turn == 3 else np.rot90(DEEP[..., :3], -1)
    assert np.array_equal(np.rint(found.pixels * 65535), expected)
    assert found.happened == (TURNED,)


def test_the_first_of_several_frames(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (10, 200)]
    for suffix in (".gif", ".tif", ".webp", ".png"):
        frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], lossless=True)
        found = read_picture(tmp_path / f"a{suffix}")
        assert found.pixels[0, 0].tolist() == [10, 0, 0]
        assert found.happened == (FIRST_FRAME,)


def test_damaged_and_disguised_files_are_one_error(tmp_path: Path) -> None:
    RGB.save(tmp_path / "good.png")
    good = (tmp_path / "good.png").read_bytes()
    huge = bytearray(good)
    huge[16:24] = b"\0\1\0\0\0\1\0\0"  # 65,536 x 65,536: a bomb, whatever Pillow would say of it
    cases = {"cut": good[:60], "empty": b"", "text": b"hello", "bomb": bytes(huge), "icns": b"icns" + good}
    for name, content in cases.items():
        (tmp_path / f"{name}.png").write_bytes(content)
        with pytest.raises(EvaluationError, match=f"{name}.png is no image"):
            read_picture(tmp_path / f"{name}.png")
    RGB.save(tmp_path / "other.png", format="ICO")
    with pytest.raises(EvaluationError, match="other.png is no image"):
        read_picture(tmp_path / "other.png")
