"""Inspection of a classifier.onnx."""
