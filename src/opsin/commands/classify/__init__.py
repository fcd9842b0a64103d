"""Many pictures classified, their answers kept."""
