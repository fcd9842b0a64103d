"""A classifier.onnx made ready to leave: smaller, or with all that others need to run it."""
