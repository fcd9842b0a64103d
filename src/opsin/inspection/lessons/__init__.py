"""Lessons on single layers, with the real numbers of one image."""
