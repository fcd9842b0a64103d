"""The networks: one architecture a file, built by name in `zoo`."""
