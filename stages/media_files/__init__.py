"""Media files: what ffmpeg says of them and decodes from them."""
