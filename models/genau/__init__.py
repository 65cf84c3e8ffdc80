"""GenAu, the text-to-audio generator (paper, section 3.3): `model.py` joins backbone, VAE, vocoder and text."""
