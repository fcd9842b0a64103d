"""Datasets that the studio keeps: uploaded, found, audited, corrected."""
