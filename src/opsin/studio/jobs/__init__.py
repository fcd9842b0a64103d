"""Jobs: child processes, recorded in plain files."""
