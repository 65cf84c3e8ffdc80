"""Training: one plain loop, and the tasks on it."""
