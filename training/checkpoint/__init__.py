"""Checkpoints: their files, and the tensors in them, written piece by piece by all processes."""
