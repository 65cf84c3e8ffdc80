"""Weights of the official GenAu code: these files know its names and layouts, and hold no modules."""
