"""`python -m pipeline` is `autorecap`."""

from pipeline.cli import main

main()
