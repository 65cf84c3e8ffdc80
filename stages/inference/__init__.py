"""Inference with models of the hub: they are loaded by name, and clips of several videos are batched for them."""
