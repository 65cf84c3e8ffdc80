"""The text encoders, FLAN-T5 and CLAP, make conditions of a batch of texts."""
