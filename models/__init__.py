"""The models: AutoCap, CLAP, GenAu. Nothing here knows Ray, datasets or videos.

They need torch, transformers and einops alone; numpy, safetensors and tokenizers come with transformers.
"""

DEMO = "demo"
"""Names the bundled captioner in place of a folder or a hub id. It stands here for settings, which need no torch."""
