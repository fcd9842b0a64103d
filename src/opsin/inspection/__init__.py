"""What is inside a classifier.onnx."""
