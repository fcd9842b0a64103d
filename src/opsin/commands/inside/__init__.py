"""Looking inside a classifier: one module a question."""
