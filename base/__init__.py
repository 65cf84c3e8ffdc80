"""The base that every room may import: errors, settings, printable text, files, progress, signals."""
