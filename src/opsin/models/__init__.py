"""The networks: their architectures, how they are built, and files as PyTorch modules."""
