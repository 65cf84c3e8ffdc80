"""The device that a command computes on."""

from autorecap.base.errors import ForeseenError


def choose_device(name: str) -> str:
    """Return the device as torch calls it; for auto, the GPU where there is one. Raises ForeseenError."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ForeseenError(f"--device {name}: there is no GPU here that torch can use. Leave it out, or give cpu")
    try:
        return str(torch.device(name))
    except RuntimeError:
        raise ForeseenError(f"--device {name}: write cpu, cuda, cuda:1 or auto") from None
