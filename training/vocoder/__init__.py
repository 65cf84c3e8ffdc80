"""The vocoder's training: the recipe, and the task that the loop runs."""
