"""Writing `classifier.onnx` and making it smaller."""
