"""Lessons on what a layer does."""
