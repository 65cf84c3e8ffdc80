"""How a dataset is built: what to build (plan), how (build), and the latents of its clips (latents)."""
