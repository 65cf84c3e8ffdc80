"""The pipeline builds a dataset: `plan` says of which videos, `build` runs the stages, `latents` encodes the clips."""
