"""The way from noise to a sound: the diffusion, its samplers, guidance, and generation from prompts."""
