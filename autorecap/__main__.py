"""`python -m autorecap` is `autorecap`."""

from autorecap.cli import main

main()
