"""``python -m robcert.network.onnx_import`` prints the table of docs/onnx.md."""

from robcert.network.onnx_import.table import markdown

print(markdown())  # noqa: T201
