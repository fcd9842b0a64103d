"""Work in child processes, kept as plain files."""
