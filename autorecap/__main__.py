"""`python -m autorecap` is `autorecap`."""

from autorecap.cli import main

if __name__ == "__main__":
    main()
