"""The architectures: one a file, each with a `SPEC`; loading them needs no PyTorch."""
