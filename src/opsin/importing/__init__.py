"""Reads classifiers that other programs made, without those programs and without running the files."""
