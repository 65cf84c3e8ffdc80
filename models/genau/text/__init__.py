"""The text encoders, FLAN-T5 and CLAP, and the conditions that they make of a batch of texts."""
