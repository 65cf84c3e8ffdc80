"""What every room may take: errors, settings, text made printable, files, progress, signals."""
