"""Media files: ffmpeg reads their headers and decodes their audio and pictures."""
