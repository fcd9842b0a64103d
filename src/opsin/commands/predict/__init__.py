"""Many images classified, their answers kept."""
