"""Real servers on loopback, in place of the ones that tests must not reach."""
