"""Clips encoded once, so that training does not decode them at every step: `autorecap encode`."""
