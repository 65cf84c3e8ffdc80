"""AutoCap: audio and metadata in, one caption out (paper, section 3.1).

The input of BART's encoder is equation 3, in the loss and in generation alike:

    [CLAP] <s> [audio tokens] (eoa) <HQVC> video caption </HQVC> \\n <TITLE> title </TITLE> </s>

Audio tokens: HTSAT's time vectors, projected, with positions, condensed by the Q-Former. BART's own <s> opens the
audio. Shape suffixes: B batch, S samples, T frames or input length, M mel bands, N time vectors or audio tokens,
C HTSAT's width, Q queries, D BART's width, P CLAP's width, L caption length.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BartConfig, BartForConditionalGeneration, GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from models import files
from models.audio import prepare_waveform, resample, stack
from models.autocap import pretrained
from models.autocap.config import AutoCapConfig, BartSize
from models.autocap.htsat import Htsat
from models.autocap.qformer import QFormer
from models.autocap.tokens import BOS, EOS, IGNORE, PAD, TAGS, CaptionTokenizer
from models.clap import ClapAudio

LAYER_NORM_EPS = 1e-5


class AudioFeatures(NamedTuple):
    """What the two audio encoders read: log-mels in dB, each of shape (B, T, M)."""

    htsat: Tensor
    clap: Tensor


class Heard(NamedTuple):
    """What the two audio encoders make of it."""

    vectors: Tensor  # HTSAT's time vectors, (B, N, C)
    clap: Tensor  # unit vectors in the space of audio and texts, (B, P)


class AutoCap(nn.Module):
    """The captioner. `caption` takes waveforms and texts; the other methods take prepared tensors."""

    DEMO = Path(__file__).parent / "demo_weights"
    """The bundled model: knows the sounds of `pipeline.demo.sounds`, and those alone."""

    def __init__(self, config: AutoCapConfig, tokenizer: CaptionTokenizer) -> None:
        super().__init__()
        if tokenizer.vocab > config.bart.vocab:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocab} tokens, but config.bart.vocab is {config.bart.vocab}"
            )
        self.config = config
        self.tokenizer = tokenizer
        width = config.bart.width
        self.htsat = Htsat(config.htsat)
        self.clap = ClapAudio(config.clap, config.clap_width)
        self.audio_in = nn.Linear(config.htsat.out_width, width)
        self.audio_positions = nn.Embedding(self.htsat.num_vectors * config.token_repeat, width)
        self.audio_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.qformer = QFormer(config.qformer, memory_width=width)
        self.audio_out = nn.Linear(config.qformer.width, width)
        self.clap_in = nn.Linear(config.clap_width, width)
        self.clap_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.tags = nn.Embedding(len(TAGS), width)
        self.eoa = nn.Parameter(torch.zeros(width)) if config.use_eoa else None
        self.dropout = nn.Dropout(config.feature_dropout)
        self.bart: Any = BartForConditionalGeneration(_bart_config(config.bart))
        self._start_from_bart()

    @torch.no_grad()
    def _start_from_bart(self) -> None:
        """New tokens begin as the BART tokens they resemble, which lets a pretrained BART read them from the start."""
        words = self.words.weight
        self.tags.weight[0::2] = words[BOS]
        self.tags.weight[1::2] = words[EOS]
        self.audio_positions.weight.normal_(std=0.02)
        if self.eoa is not None:
            self.eoa.copy_(words[EOS])

    @property
    def words(self) -> nn.Embedding:
        """BART's word embeddings."""
        return self.bart.model.shared

    @property
    def device(self) -> torch.device:
        return self.audio_in.weight.device

    # --- audio and metadata to the input of BART's encoder

    def prepare(self, waveforms: Sequence[object], sample_rate_hz: int) -> Tensor:
        """Clips of any rate and length up to the window, as the model takes them. shape (B, S)

        Raises ValueError that names the index of a clip that is empty, too long, or not finite.
        """
        mel = self.config.htsat.mel
        return stack(
            waveforms,
            lambda waveform: prepare_waveform(
                waveform, sample_rate_hz, target_rate_hz=mel.sample_rate_hz, num_samples=self.config.num_samples
            ),
        ).to(self.device)

    def features(self, x_BS: Tensor) -> AudioFeatures:
        """Prepared waveforms to the log-mels of both encoders. Has no weights, so training may compute it once."""
        x48_BS = resample(x_BS, self.config.htsat.mel.sample_rate_hz, self.config.clap.mel.sample_rate_hz)
        return AudioFeatures(self.htsat.encoder.mel(x_BS), self.clap.encoder.mel(x48_BS))

    def hear(self, features: AudioFeatures) -> Heard:
        """Both audio encoders. Frozen in the paper's training, so their output may be computed once, too."""
        return Heard(self.htsat(features.htsat), self.clap(features.clap))

    def encode_audio(self, vectors_BNC: Tensor) -> Tensor:
        """HTSAT's time vectors to audio tokens. shape (B, N, C) -> (B, Q, D)"""
        # A repeated vector differs from its copies by its position alone, so it is projected before it is repeated.
        memory_BND = self.audio_in(vectors_BNC).repeat_interleave(self.config.token_repeat, dim=1)
        memory_BND = self.audio_norm(self.dropout(memory_BND) + self.audio_positions.weight)
        return self.audio_out(self.qformer(memory_BND))

    def encode_clap(self, waveform_48k: Tensor) -> Tensor:
        """Waveforms at CLAP's sample rate to unit vectors of the audio-text space. shape (B, S) -> (B, P)"""
        return self.clap(self.clap.encoder.mel(waveform_48k))

    def embed_metadata(self, ids_BT: Tensor) -> Tensor:
        """Word or tag embeddings; positions are BART's to add. shape (B, T) -> (B, T, D)"""
        vocab = self.tokenizer.vocab
        is_tag = ids_BT >= vocab
        words = self.words(ids_BT.masked_fill(is_tag, PAD))
        tags = self.tags((ids_BT - vocab).clamp(min=0))
        return torch.where(is_tag[..., None], tags, words)

    def encoder_input(
        self, heard: Heard, metadata_ids_BT: Tensor | None, metadata_mask_BT: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Equation 3. Metadata of shape (B, Tm) or None -> embeddings (B, T, D) and mask (B, T)"""
        clap_BD = self.clap_norm(self.clap_in(heard.clap))
        audio_BQD = self.encode_audio(heard.vectors)
        batch = len(audio_BQD)
        boa_D = self.words.weight[BOS]
        parts = [clap_BD[:, None], boa_D.expand(batch, 1, -1), audio_BQD]
        if self.eoa is not None:
            parts.append(self.eoa.expand(batch, 1, -1))
        mask_BT = torch.ones(batch, sum(part.shape[1] for part in parts), dtype=torch.long, device=self.device)
        if metadata_ids_BT is not None and metadata_mask_BT is not None:
            parts.append(self.dropout(self.embed_metadata(metadata_ids_BT)))
            mask_BT = torch.cat([mask_BT, metadata_mask_BT], dim=1)
        return torch.cat(parts, dim=1), mask_BT

    # --- training and generation

    def forward(
        self,
        heard: Heard,
        metadata_ids_BT: Tensor | None,
        metadata_mask_BT: Tensor | None,
        labels_BL: Tensor,
    ) -> Tensor:
        """Logits of every caption token under teacher forcing. shape -> (B, L, vocab)"""
        embeddings_BTD, mask_BT = self.encoder_input(heard, metadata_ids_BT, metadata_mask_BT)
        first = labels_BL.new_full((len(labels_BL), 1), EOS)  # BART's decoder starts from </s>
        previous_BL = torch.cat([first, labels_BL[:, :-1]], dim=1)
        return self.bart(
            inputs_embeds=embeddings_BTD,
            attention_mask=mask_BT,
            decoder_input_ids=previous_BL.masked_fill(previous_BL == IGNORE, PAD),
            use_cache=False,
        ).logits

    @torch.inference_mode()
    def generate(
        self,
        heard: Heard,
        metadata_ids_BT: Tensor | None,
        metadata_mask_BT: Tensor | None,
        *,
        num_beams: int = 2,
        max_new_tokens: int = 30,
    ) -> Tensor:
        """Beam search over prepared input. shape -> (B, up to 1 + max_new_tokens), starting with </s> <s>"""
        embeddings_BTD, mask_BT = self.encoder_input(heard, metadata_ids_BT, metadata_mask_BT)
        hidden_BTD = self.bart.model.encoder(inputs_embeds=embeddings_BTD, attention_mask=mask_BT).last_hidden_state
        generation = GenerationConfig(
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
            min_length=2,
            do_sample=False,
            early_stopping=num_beams > 1,
            no_repeat_ngram_size=3,
            forced_bos_token_id=BOS,
            forced_eos_token_id=EOS,
            decoder_start_token_id=EOS,
            bos_token_id=BOS,
            pad_token_id=PAD,
            eos_token_id=EOS,
        )
        return self.bart.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden_BTD),
            attention_mask=mask_BT,
            generation_config=generation,
        )

    def caption(
        self,
        waveforms: Sequence[object],
        sample_rate_hz: int,
        titles: Sequence[str] | None = None,
        video_captions: Sequence[str] | None = None,
        *,
        num_beams: int = 2,
        max_new_tokens: int = 30,
    ) -> list[str]:
        """One caption per waveform.

        `waveforms`: (samples,) or (channels, samples), tensors or numpy arrays, floating or int16, up to the window.
        `titles`, `video_captions`: what is known about each clip; "" or None where nothing is.

        Deterministic: the same batch gives the same captions, bit for bit on a CPU with a fixed number of threads. In
        another batch a clip's logits may differ in their last bits, as kernels depend on the shape; a caption changes
        only where two were equally likely. Raises ValueError, naming the index, for a clip that is empty, longer than
        the window, or has NaN or infinity in it.
        """
        if not len(waveforms):
            return []
        titles = titles if titles is not None else [""] * len(waveforms)
        video_captions = video_captions if video_captions is not None else [""] * len(waveforms)
        if not len(waveforms) == len(titles) == len(video_captions):
            raise ValueError(
                f"{len(waveforms)} waveforms, {len(titles)} titles, {len(video_captions)} video captions: one each"
            )
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                x_BS = self.prepare(waveforms, sample_rate_hz)
                ids_BT, mask_BT = self.tokenizer.metadata(titles, video_captions, self.config.max_metadata_tokens)
                out = self.generate(
                    self.hear(self.features(x_BS)),
                    ids_BT.to(self.device),
                    mask_BT.to(self.device),
                    num_beams=num_beams,
                    max_new_tokens=max_new_tokens,
                )
        finally:
            self.train(was_training)
        return [self.tokenizer.decode(row) for row in out.tolist()]

    # --- files

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "AutoCap":
        """The model in a folder, or in a repository of the Hugging Face hub, in eval mode. See `pretrained.load`."""
        config, tokenizer, weights = pretrained.load(path)
        model = cls(config, tokenizer)
        files.fill(model, weights, Path(path) / files.WEIGHTS)
        return model.eval()

    def save_pretrained(self, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write config.json, model.safetensors and tokenizer.json. `dtype`: of the stored weights, if another."""
        pretrained.save(path, self.config, self.tokenizer, self, dtype)


def caption_loss(logits_BLV: Tensor, labels_BL: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy, mean over all caption tokens of the batch."""
    return F.cross_entropy(
        logits_BLV.flatten(0, 1), labels_BL.flatten(), ignore_index=IGNORE, label_smoothing=label_smoothing
    )


def _bart_config(size: BartSize) -> BartConfig:
    return BartConfig(
        vocab_size=size.vocab,
        d_model=size.width,
        encoder_layers=size.num_layers,
        decoder_layers=size.num_layers,
        encoder_attention_heads=size.num_heads,
        decoder_attention_heads=size.num_heads,
        encoder_ffn_dim=size.ffn_width,
        decoder_ffn_dim=size.ffn_width,
        max_position_embeddings=size.max_positions,
        dropout=size.dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=EOS,
        forced_eos_token_id=EOS,
    )
