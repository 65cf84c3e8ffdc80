"""How models learn: one loop, and a recipe and a task for each model."""
