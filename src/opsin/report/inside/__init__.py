"""The pages that show the inside of a classifier."""
