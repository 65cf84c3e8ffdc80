"""What happens to a video: one file per stage. Nothing here knows Ray."""
