"""Keras' layers as operators; every module has a table of those of one kind."""
