"""A demo without a network: synthesised sounds and videos, and the training of the small models that know them."""
