"""GenAu, the text-to-audio generator (section 3.3): `model.py` joins backbone, VAE, vocoder and text encoders."""
