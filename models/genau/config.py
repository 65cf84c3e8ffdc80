"""A frozen dataclass holds the sizes of GenAu as a whole. `SIZES` holds those that have a name."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from autorecap.models.config import from_dict
from autorecap.models.genau.audio import LATENTS_PER_S
from autorecap.models.genau.backbones.config import SIZES as FIT_SIZES
from autorecap.models.genau.backbones.config import DiffusionConfig, FitConfig, UNetConfig
from autorecap.models.genau.text.conditioning import DATASETS, TextConfig
from autorecap.models.genau.vae.model import SIZES as VAE_SIZES
from autorecap.models.genau.vae.model import VAEConfig
from autorecap.models.genau.vocoder.model import SIZES as VOCODER_SIZES
from autorecap.models.genau.vocoder.model import VocoderConfig

_BACKBONES: dict[str, type[FitConfig] | type[UNetConfig]] = {"fit": FitConfig, "unet": UNetConfig}


@dataclass(frozen=True, kw_only=True)
class GenAuConfig:
    """A GenAuConfig fixes the modules of GenAu and how they are used together."""

    size: str = "s"  # its name in `SIZES`, for people
    backbone: FitConfig | UNetConfig = FitConfig()
    vae: VAEConfig = VAEConfig()
    vocoder: VocoderConfig = VocoderConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    text: TextConfig = TextConfig()
    datasets: tuple[str, ...] = DATASETS  # whose styles can be asked for; the position is the id
    default_dataset: str = "audiocaps"
    """The style of this dataset is meant where none is named: for the released weights "the most reliable dataset"
    (paper, D.2); training sets it to the one that most of its data had."""
    unconditional_dataset: int = 31  # an id of its own; released weights have 0, that of audiocaps
    exact_durations: bool = True
    """Padding is masked to the frame. Released weights were trained on clips padded to 10.24 s with silence, which
    they know no other way: then whole groups are generated and the waveform is cut."""

    def __post_init__(self) -> None:
        if self.backbone.channels != self.vae.channels:
            raise ValueError(
                f"backbone: channels is {self.backbone.channels}, but the VAE's latent has {self.vae.channels}"
            )
        if self.vae.num_mels != self.vocoder.num_mels:
            raise ValueError(f"vocoder: num_mels is {self.vocoder.num_mels}, but the VAE has {self.vae.num_mels}")
        num_datasets = self.backbone.context.num_datasets
        if len(self.datasets) > num_datasets or not 0 <= self.unconditional_dataset < num_datasets:
            raise ValueError(
                f"datasets: {len(self.datasets)} names and the unconditional id {self.unconditional_dataset} need room "
                f"in context.num_datasets, which is {num_datasets}"
            )
        self.dataset_id(self.default_dataset)

    @property
    def has_small_text(self) -> bool:
        """Its text encoders are small new ones, which `GenAu.new` makes; models of other sizes take published ones."""
        return self.size == "demo"

    @property
    def frames_multiple(self) -> int:
        """The backbone takes latents whose frames are a multiple of this."""
        backbone = self.backbone
        return backbone.group_frames if isinstance(backbone, FitConfig) else backbone.frames_multiple

    @property
    def max_seconds(self) -> float:
        """The model makes sounds of up to this length: it learns no positions behind it."""
        return self.backbone.max_frames / LATENTS_PER_S

    def dataset_id(self, name: str) -> int:
        """Returns the id of a dataset. Raises ValueError for a name that the model does not know."""
        if name not in self.datasets:
            raise ValueError(f"dataset {name!r} is not one of the model's: {', '.join(self.datasets)}")
        return self.datasets.index(name)

    def as_released(self) -> "GenAuConfig":
        """Returns the same with what official weights of this size expect in place of what is better to train with."""
        return replace(self, unconditional_dataset=0, exact_durations=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as config.json holds them."""
        kind = next(name for name, cls in _BACKBONES.items() if isinstance(self.backbone, cls))
        values = asdict(self)
        return values | {"backbone": {"kind": kind, **values["backbone"]}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "GenAuConfig":
        """Inverts `to_dict`. Raises ValueError for a name that no setting has."""
        rest = dict(values)
        backbone = dict(rest.pop("backbone", {"kind": "fit"}))
        kind = backbone.pop("kind", None)
        if kind not in _BACKBONES:
            raise ValueError(f"backbone: kind is {kind!r}: write one of {', '.join(_BACKBONES)}")
        return from_dict(cls, rest | {"backbone": _BACKBONES[kind].from_dict(backbone)}, "genau")


SIZES: dict[str, GenAuConfig] = {
    # learns a few sounds on a laptop, in minutes: by v, since in eps what a text says is a hundredth of the loss
    "demo": GenAuConfig(
        size="demo",
        backbone=FIT_SIZES["demo"],
        vae=VAE_SIZES["demo"],
        vocoder=VOCODER_SIZES["demo"],
        diffusion=DiffusionConfig(prediction="v"),
    ),
    # the paper's two models, and the U-Net that they are compared with
    "s": GenAuConfig(),
    "l": GenAuConfig(size="l", backbone=FIT_SIZES["l"]),
    "unet": GenAuConfig(size="unet", backbone=UNetConfig()),
}
