"""A training, from the command to the report: `train` tells the story."""
