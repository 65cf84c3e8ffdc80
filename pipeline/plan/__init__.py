"""Plans a dataset: videos of folders and lists are compared with its plan, and those that are new are appended."""
