"""Clips to learn from, out of datasets and lists: what they are, in which order they come, how they are read."""
