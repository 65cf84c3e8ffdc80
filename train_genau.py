"""What `ray submit cluster.yaml train_genau.py -- --config ... --data ... --out ...` runs: `autorecap train genau`.

The other models of the recipe go the same way, named first: `train_genau.py vae --config ...`. It trains in the workers
of the Ray cluster that this machine is the head of: one at least and eight at most, unless `--workers` says otherwise.
"""

import sys

from autorecap.cli import app

MODELS = ("genau", "vae", "vocoder", "autocap")

if __name__ == "__main__":
    arguments = sys.argv[1:]
    model = arguments.pop(0) if arguments and arguments[0] in MODELS else MODELS[0]
    app(["train", model, "--workers", "1:8", *arguments], prog_name="train_genau.py")
