"""Encodes the clips of a dataset once, so that training need not at every step: `autorecap encode`."""
