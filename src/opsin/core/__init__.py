"""The foundation: errors, storage, recipes, metadata and the files of a run."""
