"""From a heap of photographs to labels: groups, questions, and how good it is by now."""
