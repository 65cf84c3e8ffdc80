"""Reports on a training run: logs, and an HTML page with charts, spectrograms and sounds."""
