"""A classifier.onnx in smaller numbers: ONNX bytes in, ONNX bytes out."""
