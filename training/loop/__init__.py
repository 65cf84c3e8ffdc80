"""The training loop: steps, optimisers, processes, sharding. It knows no model."""
