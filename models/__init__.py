"""The models: AutoCap, CLAP, GenAu. Nothing here knows Ray, datasets or videos.

They need torch, transformers and einops alone; numpy, safetensors and tokenizers come with transformers.
"""
