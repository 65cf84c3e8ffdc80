"""Reads clips to learn from, out of datasets and lists, in an order that follows from the seed."""
