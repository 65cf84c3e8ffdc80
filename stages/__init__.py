"""What happens to a video: one file per stage, and the record that travels through them."""
