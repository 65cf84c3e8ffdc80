"""Frozen dataclasses hold the sizes of AutoCap. `SIZES` holds those that have a name."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from autorecap.models.audio import MelConfig
from autorecap.models.config import check_heads, check_positive, check_share, from_dict
from autorecap.models.swin import SwinConfig

CLAP_PLACES = ("encoder_input", "encoder_output")


@dataclass(frozen=True, kw_only=True)
class QFormerConfig:
    """A QFormerConfig fixes the Q-Former, learned queries that read the audio tokens (section 3.1: 256 queries)."""

    num_queries: int = 256
    width: int = 256
    num_layers: int = 2
    num_heads: int = 8
    ffn_width: int = 3_072
    dropout: float = 0.1
    eps: float = 1e-12  # of its layer norms, as BERT has it

    def __post_init__(self) -> None:
        check_positive("qformer", self, "num_queries", "width", "num_layers", "num_heads", "ffn_width")
        check_share("qformer", self, "dropout")
        check_heads("qformer", self.width, self.num_heads)
        if self.eps <= 0:
            raise ValueError(f"qformer: eps is {self.eps}: write more than 0")


@dataclass(frozen=True, kw_only=True)
class BartSize:
    """A BartSize fixes BART, the text encoder-decoder."""

    vocab: int = 50_265
    width: int = 768
    num_layers: int = 6  # in the encoder, and in the decoder
    num_heads: int = 12
    ffn_width: int = 3_072
    max_positions: int = 1_024
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_positive("bart", self, "vocab", "width", "num_layers", "num_heads", "ffn_width", "max_positions")
        check_share("bart", self, "dropout")
        check_heads("bart", self.width, self.num_heads)


@dataclass(frozen=True, kw_only=True)
class AutoCapConfig:
    """An AutoCapConfig fixes the modules of AutoCap and what they are fed."""

    size: str = "base"  # its name in `SIZES`, for people
    htsat: SwinConfig = field(default_factory=lambda: SwinConfig(mel=MelConfig()))
    clap: SwinConfig = field(
        default_factory=lambda: SwinConfig(
            mel=MelConfig(sample_rate_hz=48_000, hop=480), width=128, depths=(2, 2, 12, 2)
        )
    )
    clap_width: int = 512  # of the joint audio-text embedding
    qformer: QFormerConfig = QFormerConfig()
    bart: BartSize = BartSize()
    window_s: float = 10.0  # what the model hears at once
    token_repeat: int = 32  # audio tokens per time vector of HTSAT, each with its own position
    feature_dropout: float = 0.2  # on projected audio features and on word embeddings of the metadata
    use_eoa: bool = True  # close the audio with a learned token, as equation 3 has it; released weights have none
    # Where the CLAP token joins in the loss. The paper (equation 3), and generation in any case: encoder_input. The
    # released code puts it behind the encoder's output when it trains: encoder_output.
    clap_in_loss: str = "encoder_input"
    max_metadata_tokens: int = 128
    max_caption_tokens: int = 30

    def __post_init__(self) -> None:
        if self.clap_in_loss not in CLAP_PLACES:
            raise ValueError(f"clap_in_loss is {self.clap_in_loss!r}: write {' or '.join(CLAP_PLACES)}")
        check_positive("autocap", self, "clap_width", "token_repeat", "max_metadata_tokens", "max_caption_tokens")
        check_share("autocap", self, "feature_dropout")
        for name, encoder in (("htsat", self.htsat), ("clap", self.clap)):
            frames = self.window_s * encoder.mel.sample_rate_hz / encoder.mel.hop + 1
            if not self.window_s > 0 or frames > encoder.max_frames:
                raise ValueError(
                    f"autocap: window_s is {self.window_s}: write a number of seconds above 0 from which {name} makes "
                    f"at most {encoder.max_frames} frames, not {frames:.0f}"
                )
        longest = self.qformer.num_queries + self.max_metadata_tokens + 4  # clap, boa, eoa, </s>
        if longest > self.bart.max_positions:
            raise ValueError(
                f"bart: up to {longest} input tokens, but {self.bart.max_positions} positions: raise max_positions"
            )

    @property
    def num_audio_tokens(self) -> int:
        """The Q-Former reads this many tokens: each of HTSAT's time vectors `token_repeat` times."""
        return self.htsat.num_vectors * self.token_repeat

    @property
    def num_samples(self) -> int:
        """One window has this many samples at HTSAT's rate."""
        return round(self.window_s * self.htsat.mel.sample_rate_hz)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, as config.json holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AutoCapConfig":
        """Inverts `to_dict`. Raises ValueError for a name that no setting has."""
        return from_dict(cls, values)


# What a codec removes lies under -40 dB: the small model is better off not hearing the difference.
_DEMO_HTSAT = SwinConfig(mel=MelConfig(min_power=1e-4), patch=16, width=64, depths=(2, 2), heads=(4, 8))
_DEMO_CLAP = SwinConfig(
    mel=MelConfig(sample_rate_hz=48_000, hop=480, min_power=1e-4), patch=16, width=32, depths=(1, 2), heads=(4, 8)
)

SIZES: dict[str, AutoCapConfig] = {
    # ships with the project; learns synthesised sounds in minutes on a laptop
    "demo": AutoCapConfig(
        size="demo",
        htsat=_DEMO_HTSAT,
        clap=_DEMO_CLAP,
        clap_width=64,
        qformer=QFormerConfig(num_queries=16, width=128, num_layers=2, num_heads=4, ffn_width=256, dropout=0.0),
        bart=BartSize(vocab=768, width=128, num_layers=2, num_heads=4, ffn_width=256, max_positions=160, dropout=0.05),
        token_repeat=1,
        feature_dropout=0.05,
        use_eoa=True,
        max_metadata_tokens=96,
    ),
    # what published activations were computed with: a small BART and CLAP, the rest as released
    "parity": AutoCapConfig(
        size="parity",
        clap=SwinConfig(mel=MelConfig(sample_rate_hz=48_000, hop=480)),
        bart=BartSize(vocab=300, width=64, num_layers=2, num_heads=4, ffn_width=128),
    ),
    # the released size, BART-base
    "base": AutoCapConfig(),
    # BART-large
    "large": AutoCapConfig(size="large", bart=BartSize(width=1_024, num_layers=12, num_heads=16, ffn_width=4_096)),
}
