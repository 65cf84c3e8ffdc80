"""The networks that predict the noise: FIT, the paper's transformer, in `fit.py`, and a U-Net to compare it with."""
