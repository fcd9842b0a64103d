"""Models without layers, fitted by scikit-learn; PyTorch is not needed."""
