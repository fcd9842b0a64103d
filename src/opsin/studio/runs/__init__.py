"""Runs as the studio shows them, and what is asked of their classifiers."""
