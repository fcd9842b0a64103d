"""Export of classifiers."""
