"""Builds a dataset: a driver sends the videos of its plan through the stages, and commits the files that come out."""
