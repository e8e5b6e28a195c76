"""The builders of the hostile files, one module a format; importing this package fills the table."""

from tests.hostile.files import cards, data, onnx_, pickles, pt2, runs, torchscript, zips

__all__ = ["cards", "data", "onnx_", "pickles", "pt2", "runs", "torchscript", "zips"]
