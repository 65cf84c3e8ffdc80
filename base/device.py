"""Chooses the device that a command computes on: the CPU or a GPU."""

from autorecap.base.errors import ForeseenError


def check_unnumbered(name: str) -> None:
    """Refuse anything but auto, cpu and cuda, where each process gets its GPU from elsewhere. Raises ForeseenError."""
    if name not in ("auto", "cpu", "cuda"):
        raise ForeseenError(f"--device {name}: write cpu, cuda or auto")


def choose_device(name: str, *, numbered: bool = True) -> str:
    """Return the device as torch calls it; for auto, the GPU where there is one. Raises ForeseenError.

    `numbered`: one GPU of several may be named, such as cuda:1.
    """
    import torch

    if not numbered:
        check_unnumbered(name)

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ForeseenError(f"--device {name}: there is no GPU here that torch can use. Leave it out, or give cpu")
    try:
        return str(torch.device(name))
    except RuntimeError:
        raise ForeseenError(f"--device {name}: write cpu, cuda, cuda:1 or auto") from None
