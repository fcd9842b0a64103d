"""What is inside a classifier.onnx: one file a question."""
