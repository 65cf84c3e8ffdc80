"""A demo without a network: synthesised sounds, and the captioner that knows them."""
