"""The 1D-VAE between log-mel spectrograms and latents, in `model.py`, and what trains it: loss and discriminator."""
