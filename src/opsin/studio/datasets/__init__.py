"""The studio's datasets: uploaded, found, audited, corrected."""
