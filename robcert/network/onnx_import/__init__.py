"""ONNX files as differentiable networks of torch; see `robcert.network.onnx_import.load.load_onnx`."""
