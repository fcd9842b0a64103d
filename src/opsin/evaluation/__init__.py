"""Arrays in, plain data out: how good, and where not."""
