"""What every room may take: errors, settings, printable text, files, progress, signals."""
