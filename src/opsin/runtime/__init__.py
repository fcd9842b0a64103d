"""Inference with a `classifier.onnx`; needs no PyTorch."""
