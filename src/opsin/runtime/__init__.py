"""A `classifier.onnx`, checked and ready to answer; needs no PyTorch."""
