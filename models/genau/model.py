"""GenAu makes a sound from a text (paper, section 3.3).

    prompt -> T5, CLAP ──────────┐
    noise  -> FIT, many times over -> latent -> VAE's decoder -> log-mel -> vocoder -> waveform

Shape suffixes: B batch, C channels of the latent, T latent frames, S samples.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import T5Config

from autorecap.models import clap, files
from autorecap.models.audio import to_mono
from autorecap.models.autocap import AutoCap
from autorecap.models.bpe import EOS, PAD, BpeTokenizer
from autorecap.models.clap import ClapText
from autorecap.models.files import WEIGHTS
from autorecap.models.genau import pretrained
from autorecap.models.genau.audio import MEL, OUTPUT_PEAK, SAMPLES_PER_LATENT, latent_frames, log_mel, prepare_clip
from autorecap.models.genau.backbones.backbone import Backbone
from autorecap.models.genau.backbones.config import FitConfig
from autorecap.models.genau.backbones.fit import Fit
from autorecap.models.genau.backbones.unet import UNet
from autorecap.models.genau.config import SIZES, GenAuConfig
from autorecap.models.genau.sampling import generation
from autorecap.models.genau.sampling.diffusion import Diffusion
from autorecap.models.genau.sampling.generation import GenerateConfig, Plan, Progress, Scorer, Sound, plan
from autorecap.models.genau.text.conditioning import Condition, TextEncoders
from autorecap.models.genau.text.t5 import T5Text
from autorecap.models.genau.vae.model import VAE
from autorecap.models.genau.vocoder.model import Vocoder

SAMPLE_RATE_HZ = MEL.sample_rate_hz


class GenAu(nn.Module):
    """GenAu is the generator: `generate` takes prompts; `encode_audio` and `condition` are for training loops."""

    scale_factor: Tensor
    """Latents are multiplied by it, so that the diffusion sees unit variance. Training sets it."""

    def __init__(self, config: GenAuConfig, text: TextEncoders | None = None) -> None:
        """Builds the model. `text`: the text encoders; without them the model does all but read texts."""
        super().__init__()
        self.config = config
        self.diffusion = Diffusion(config.diffusion)
        self.backbone: Backbone = (
            Fit(config.backbone) if isinstance(config.backbone, FitConfig) else UNet(config.backbone)
        )
        self.vae = VAE(config.vae)
        self.vocoder = Vocoder(config.vocoder)
        self.register_buffer("scale_factor", torch.ones(()))
        if text is not None:
            text.check_widths(config.backbone.context)
        self.text = text

    @classmethod
    def new(cls, size: str, seed: int = 0) -> "GenAu":
        """Returns an untrained model of a size in `SIZES`, in eval mode; the same seed gives the same weights.

        Only size `demo` has text encoders (new ones, too); others are trained with pretrained ones.
        """
        if size not in SIZES:
            raise ValueError(f"size is {size!r}: choose one of {', '.join(SIZES)}")
        config = SIZES[size]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config, small_encoders(config) if config.has_small_text else None).eval()

    @property
    def device(self) -> torch.device:
        return self.scale_factor.device

    # --- what training needs

    def condition(self, texts: Sequence[str], datasets: Sequence[str]) -> Condition:
        """Returns the conditions of a batch, without gradients, from a text and the name of a dataset for each clip."""
        ids = [self.config.dataset_id(name) for name in datasets]
        return Condition(self._text_encoders().encode(texts), torch.tensor(ids, device=self.device))

    def unconditional(self) -> Condition:
        """Returns the condition of no text and no dataset, a batch of one: guidance and condition dropout need it."""
        ids_1 = torch.tensor([self.config.unconditional_dataset], device=self.device)
        return Condition(self._text_encoders().encode_empty(), ids_1)

    def _text_encoders(self) -> TextEncoders:
        if self.text is None:
            raise ValueError("this model was made without its text encoders: load it with them, or set `text`")
        return self.text

    @torch.no_grad()
    def encode_audio(
        self, waveforms: Sequence[object], sample_rate_hz: int, generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """Encodes clips as latents of their own lengths, each (C, T), times `scale_factor`: the backbone learns these.

        With a CPU `generator` the posterior is sampled, and of a clip longer than `config.max_seconds` a random part is
        taken; without, it is the posterior's mean, and the clip's beginning. `pad_latents` makes a batch of them.
        Raises ValueError, naming the index, for a clip that is empty or holds NaN or infinity.
        """
        latents = []
        for i, waveform in enumerate(waveforms):
            try:
                x_S = to_mono(waveform)
                frames = min(latent_frames(len(x_S) / sample_rate_hz), self.backbone.max_frames)
                x_S = prepare_clip(x_S, sample_rate_hz, num_samples=frames * SAMPLES_PER_LATENT, generator=generator)
            except ValueError as error:
                raise ValueError(f"waveform {i}: {error}") from None
            posterior = self.vae.encode(log_mel(x_S[None].to(self.device)))
            z_BCT = posterior.mean if generator is None else posterior.sample(generator)
            latents.append(z_BCT[0] * self.scale_factor)
        return latents

    @torch.no_grad()
    def decode(self, latent_CT: Tensor) -> Tensor:
        """Decodes a latent to a waveform of 640 samples per frame. shape (C, T) -> (S,)

        Latents are decoded one at a time, although the VAE could mask a batch: so a waveform depends on its latent
        alone, to the last bit. Raises ValueError for NaN.
        """
        mel_BMT = self.vae.decode(latent_CT[None] / self.scale_factor)
        return self.vocoder.synthesise(mel_BMT)[0]

    # --- generation

    def generate(
        self,
        prompts: Sequence[str],
        seconds: float | Sequence[float] = 10.0,
        *,
        num_steps: int = 100,
        guidance_scale: float = 4.0,
        seed: int = 0,
        num_candidates: int = 1,
        scorer: Scorer | None = None,
        dataset: str = "",
        sampler: str = "ddim",
        eta: float = 1.0,
        peak: float | None = OUTPUT_PEAK,
        batch_size: int = 8,
        progress: Progress | None = None,
    ) -> list[Tensor]:
        """Returns one waveform per prompt: 16 kHz, float32 on the CPU, of exactly the samples that `seconds` are.

        `seconds`: of all sounds, or of each; up to `config.max_seconds`.
        `num_steps`, `sampler`, `eta`: how the sampler goes. The defaults are the released model's; `dpm++` and `unipc`
        need diffusers and 20 to 25 steps. `guidance_scale`: how much a text counts; 0 not at all, 1 without guidance.
        `seed`: a sound is a function of prompt, seed and the settings above, alone or in any batch (but for the last
        bits of floating point). A prompt that comes again gets another sound.
        `num_candidates`: that many sounds are made for each prompt, and the one kept that `scorer` gives most.
        `dataset`: whose style; "": `config.default_dataset`.
        `peak`: what each sound is scaled to, or None; silence stays silence.
        `progress`: is told how many of how many steps are done.

        Warns where a prompt is longer than the text encoders read. Raises ValueError that names the argument for one
        that means nothing, and where a sound came out as NaN.
        """
        config = GenerateConfig(
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            seed=seed,
            num_candidates=num_candidates,
            dataset=dataset,
            sampler=sampler,
            eta=eta,
            peak=peak,
            batch_size=batch_size,
        )
        planned = plan(self.config, prompts, seconds, config, scorer)
        for i, cut in self._text_encoders().overlong(planned.texts):
            warnings.warn(f"prompt {i} is not read to its end: {cut}", stacklevel=2)
        return list(self.stream(planned, progress))

    def stream(self, planned: Plan, progress: Progress | None = None) -> Iterator[Tensor]:
        """Yields the waveforms of a plan, one for each prompt, as they get ready."""
        config = planned.config

        def make(sounds: Sequence[Sound], step: Callable[[], None]) -> list[Tensor]:
            with generation.evaluating(self), torch.inference_mode():
                condition = self.condition([sound.take.prompt for sound in sounds], [config.dataset] * len(sounds))
                latents_BCT = generation.sample_latents(
                    self.backbone, self.diffusion, condition, self.unconditional(), sounds, config, step
                )
                pairs = zip(latents_BCT, sounds, strict=True)
                return [generation.finish(latent_CT, self.decode, sound, config) for latent_CT, sound in pairs]

        return generation.stream(planned, make, progress)

    # --- files

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        t5: str | Path | None = None,
        clap: str | Path | None = None,
        with_text: bool = True,
    ) -> "GenAu":
        """Loads the model in a folder, or in a repository of the Hugging Face hub, in eval mode.

        `dtype`: of the backbone, where the work is; bfloat16 on a GPU. The rest stays fp32.
        `t5`, `clap`: folders or hub ids of the text encoders, where they are not in the model's own folder.
        `with_text=False` loads none: enough for training on texts that were encoded before.
        Raises ModelFilesError that names a file that is missing or damaged, and a tensor with NaN in it.
        """
        folder, config = pretrained.find(path)
        text = pretrained.load_text(path, config, t5, clap) if with_text else None
        with torch.device("meta"):  # no time is spent on random weights
            model = cls(config)
        model.backbone.to(dtype)
        model.to_empty(device=device)
        files.fill(model.parts(), files.read_weights(folder / WEIGHTS), folder / WEIGHTS)
        files.check_finite(model.parts(), folder / WEIGHTS)
        model.text = text
        return model.to(device).eval()

    def save_pretrained(self, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Writes the folder that `pretrained.py` describes. `dtype`: of the generator's stored weights, if another."""
        pretrained.save(path, self.config, self.parts(), self.text, dtype)

    def parts(self) -> pretrained.Parts:
        """Returns all but the text encoders, under the names of the weights file."""
        return pretrained.Parts(self.backbone, self.vae, self.vocoder, self.scale_factor)


def small_encoders(config: GenAuConfig) -> TextEncoders:
    """Returns untrained text encoders of size `demo`, with the bundled captioner's tokenizer: nothing is downloaded."""
    tokenizer = BpeTokenizer.load(AutoCap.DEMO / files.TOKENIZER)
    t5_config = T5Config(
        vocab_size=tokenizer.vocab,
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    return TextEncoders(
        config.text,
        t5=T5Text(t5_config, tokenizer.bpe) if config.text.has_t5 else None,
        clap=ClapText(clap.TEXT_SIZES["demo"], tokenizer) if config.text.clap else None,
    )
