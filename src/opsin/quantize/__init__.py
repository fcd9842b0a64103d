"""A classifier.onnx in smaller numbers."""
