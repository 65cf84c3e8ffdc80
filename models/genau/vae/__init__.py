"""The 1D-VAE goes between log-mel spectrograms and latents (`model.py`); its loss and its discriminator train it."""
