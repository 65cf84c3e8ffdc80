"""Train the demo vocoder from nothing, on synthesised sounds:

python -m pipeline.demo.train_vocoder --out models/genau/demo_weights

Spectral losses alone: discriminators would need days. It speaks the dialect of `models.genau.audio.log_mel`, as every
vocoder here, so the VAE and GenAu of the demo can be trained in a minute and still be listened to.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.files import WEIGHTS
from models.genau.audio import MEL, log_mel, prepare_clip
from models.genau.vocoder import SIZES, Vocoder
from pipeline.demo.sounds import KINDS, SAMPLE_RATE_HZ, synthesise
from pipeline.training.logs import for_people
from pipeline.training.loop import LoopConfig, Scored, Trainer

SECONDS = 3.0  # of each sound in the bank
FRAMES = 48  # of each example
FFTS = (256, 512, 1_024, 2_048)  # of the losses: what one blurs in time, another resolves
MIXED = 0.3  # share of examples that are two sounds at once
MAX_ERROR = 1.0
"""Mean error of the log-mel over fresh sounds, in nats: a vocoder above it replaces nothing."""
FRESH_SEED = 1_000_003
BANK, DRAW = 1, 2  # purposes of random draws


class Waves(NamedTuple):
    """Examples of one step."""

    names: tuple[str, ...]
    unreadable: tuple[str, ...]
    x_BS: Tensor


class VocoderLoss(nn.Module):
    """How far what the vocoder makes of a sound's log-mel is from the sound, in magnitudes."""

    def __init__(self, vocoder: Vocoder) -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, batch: Waves) -> Scored:
        mel_BMT = log_mel(batch.x_BS)
        made_BS = self.vocoder(mel_BMT)
        mel = (log_mel(made_BS) - mel_BMT).abs().mean()
        spectra = torch.stack([_spectral(made_BS, batch.x_BS, size) for size in FFTS]).mean()
        return Scored(mel + spectra, len(batch.names), {"mel_loss": mel.item(), "spectral_loss": spectra.item()})


def _spectral(made_BS: Tensor, real_BS: Tensor, size: int) -> Tensor:
    """Spectral convergence and the error of log-magnitudes (Yamamoto et al., 2020)."""
    window = torch.hann_window(size, device=made_BS.device)
    made, real = (
        torch.stft(x, size, size // 4, window=window, return_complex=True).abs().clamp(min=1e-5)
        for x in (made_BS, real_BS)
    )
    return (made - real).norm() / real.norm() + (made.log() - real.log()).abs().mean()


class WaveTask:
    """The task for the loop: pieces of a bank of sounds, alone or two at once."""

    def __init__(self, vocoder: Vocoder, per_kind: int, seed: int) -> None:
        self.module: nn.Module = VocoderLoss(vocoder)
        self.seed = seed
        self.bank = bank(per_kind, [seed, BANK])

    def batch(self, positions: range) -> Waves:
        return Waves(
            names=tuple(f"sound {position}" for position in positions),
            unreadable=(),
            x_BS=torch.stack([self._example(position) for position in positions]),
        )

    def to(self, batch: Waves, device: torch.device) -> Waves:
        return batch._replace(x_BS=batch.x_BS.to(device))

    def _example(self, position: int) -> Tensor:
        rng = np.random.default_rng([self.seed, DRAW, position])
        x_S = self._piece(rng) * float(rng.uniform(0.3, 1.0))
        if rng.random() < MIXED:
            x_S = 0.5 * (x_S + self._piece(rng))
        return x_S

    def _piece(self, rng: np.random.Generator) -> Tensor:
        sound_S = self.bank[int(rng.integers(len(self.bank)))]
        start = int(rng.integers(len(sound_S) - FRAMES * MEL.hop + 1))
        return sound_S[start : start + FRAMES * MEL.hop]


def bank(per_kind: int, seed: list[int]) -> Tensor:
    """Sounds of every kind, as VAE and vocoder hear them. shape (N, S)"""
    rng = np.random.default_rng(seed)
    num_samples = round(SECONDS * MEL.sample_rate_hz)
    sounds = [synthesise(kind, SECONDS, rng) for kind in KINDS for _ in range(per_kind)]
    return torch.stack([prepare_clip(sound, SAMPLE_RATE_HZ, num_samples=num_samples) for sound in sounds])


@torch.no_grad()
def evaluate(vocoder: Vocoder) -> dict[str, float]:
    """The mean error of the log-mel of fresh sounds, per kind, in nats."""
    errors = {}
    for kind, x_S in zip(KINDS, bank(1, [FRESH_SEED]), strict=True):
        mel_BMT = log_mel(x_S[None])
        errors[kind] = float((log_mel(vocoder.synthesise(mel_BMT)) - mel_BMT).abs().mean())
    return errors


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where the weights go, if they are good")
    parser.add_argument("--sounds", type=int, default=40, help="synthesised sounds of each kind")
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--lr", type=float, default=2e-3, help="at the peak of the schedule")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    started = time.perf_counter()
    vocoder = Vocoder(SIZES["demo"])
    vocoder.add_weight_norm()
    loop = LoopConfig(
        steps=args.steps, batch_size=args.batch_size, optimizer="adamw", lr=args.lr, betas=(0.8, 0.99), warmup_steps=50,
        weight_decay=0.0, max_grad_norm=10.0, log_every=100, seed=args.seed,
    )  # fmt: skip
    Trainer(WaveTask(vocoder, args.sounds, args.seed), loop).run(lambda line: print(for_people(line), flush=True))
    vocoder.remove_weight_norm()
    vocoder = vocoder.half().float().eval()  # what is judged is what is stored
    errors = evaluate(vocoder)
    for kind, error in errors.items():
        print(f"{kind:14}{error:8.2f}")
    error = sum(errors.values()) / len(errors)
    print(f"trained in {time.perf_counter() - started:.0f} s; error of the log-mel {error:.2f}")
    if error > MAX_ERROR:
        print(f"{args.out} is left as it is: the error is above {MAX_ERROR}. Train longer (--steps)")
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.half().contiguous() for name, tensor in vocoder.state_dict().items()}
    save_file(weights, args.out / f"vocoder-{WEIGHTS}")
    print(f"written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
