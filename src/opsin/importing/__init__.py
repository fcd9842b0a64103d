"""Reads classifiers that other programs saved, without those programs; no file is run."""
