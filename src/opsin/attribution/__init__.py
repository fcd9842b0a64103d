"""Heat maps by the gradients of a classifier.onnx."""
