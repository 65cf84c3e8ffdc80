"""What `ray submit cluster.yaml build_autorecap_xl.py -- --videos ... --out ...` runs: `autorecap build`."""

import sys

from autorecap.cli import app

if __name__ == "__main__":
    app(["build", *sys.argv[1:]], prog_name="build_autorecap_xl.py")
