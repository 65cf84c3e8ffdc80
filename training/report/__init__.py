"""What a run shows of itself: logs, and a page with charts, spectrograms and sounds."""
