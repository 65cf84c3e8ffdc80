"""Where it runs: Ray start-up and the cluster files."""
