"""What everything else rests on: errors, storage, recipes, metadata, and the files of a run."""
