"""Runs in the studio, and questions to their classifiers."""
