"""What to build: sources of videos are compared with the plan of a dataset, and what is new is appended to it."""
