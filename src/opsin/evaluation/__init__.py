"""Evaluation: from arrays of answers to figures."""
