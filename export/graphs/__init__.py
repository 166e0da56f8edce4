"""Writing ONNX graphs."""

OPSET = 20
"""Of every ONNX file."""
