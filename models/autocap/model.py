"""AutoCap takes audio and metadata and returns one caption (paper, section 3.1).

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
from transformers import BartConfig, BartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from autorecap.models import files
from autorecap.models.audio import as_waveforms, prepare_waveforms, resample
from autorecap.models.autocap import captioning, pretrained
from autorecap.models.autocap.config import AutoCapConfig, BartSize
from autorecap.models.autocap.htsat import Htsat
from autorecap.models.autocap.qformer import QFormer
from autorecap.models.autocap.search import beam_search
from autorecap.models.autocap.tokens import IGNORE, TAGS, CaptionTokenizer
from autorecap.models.bpe import BOS, EOS, PAD
from autorecap.models.clap import ClapAudio
from autorecap.models.files import ModelFilesError

LAYER_NORM_EPS = 1e-5


class AudioFeatures(NamedTuple):
    """The two audio encoders read these log-mels in dB, each of shape (B, T, M)."""

    htsat: Tensor
    clap: Tensor


class Heard(NamedTuple):
    """The two audio encoders return these vectors."""

    vectors: Tensor  # HTSAT's time vectors, (B, N, C)
    clap: Tensor  # unit vectors in the space of audio and texts, (B, P)


class AutoCap(nn.Module):
    """AutoCap is the captioner: `caption` takes waveforms and texts; the other methods take prepared tensors."""

    DEMO = pretrained.DEMO_FOLDER
    """The bundled model lies here; it knows 14 synthesised sounds, and those alone."""

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
        self.audio_positions = nn.Embedding(config.num_audio_tokens, width)
        self.audio_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.qformer = QFormer(config.qformer, memory_width=width)
        self.audio_out = nn.Linear(config.qformer.width, width)
        self.clap_in = nn.Linear(config.clap_width, width)
        self.clap_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.tags = nn.Embedding(len(TAGS), width)
        self.eoa = nn.Parameter(torch.zeros(width)) if config.use_eoa else None
        self.dropout = nn.Dropout(config.feature_dropout)
        self.bart: Any = BartForConditionalGeneration(_bart_config(config.bart))
        self.start_from_bart()

    @torch.no_grad()
    def start_from_bart(self) -> None:
        """Copies to each new token the BART token it resembles, so that a pretrained BART reads them from the start."""
        words = self.words.weight
        self.tags.weight[0::2] = words[BOS]
        self.tags.weight[1::2] = words[EOS]
        self.audio_positions.weight.normal_(std=0.02)
        if self.eoa is not None:
            self.eoa.copy_(words[EOS])

    @property
    def words(self) -> nn.Embedding:
        """BART embeds words with this table."""
        words: nn.Embedding = self.bart.model.shared
        return words

    @property
    def device(self) -> torch.device:
        return self.audio_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The weights have this dtype; waveforms, log-mels and scores are float32 in any case."""
        return self.audio_in.weight.dtype

    # --- audio and metadata to the input of BART's encoder

    def prepare(self, waveforms: Sequence[object], sample_rate_hz: int) -> Tensor:
        """Returns clips of any rate and length up to the window as the model takes them. shape (B, S)

        Raises ValueError that names the index of a clip that is empty, too long, or not finite.
        """
        return self._prepare(as_waveforms(waveforms, sample_rate_hz, self.config.window_s), sample_rate_hz)

    def _prepare(self, clips: Sequence[Tensor], sample_rate_hz: int, numbers: Sequence[int] | None = None) -> Tensor:
        return prepare_waveforms(
            clips,
            sample_rate_hz,
            target_rate_hz=self.config.htsat.mel.sample_rate_hz,
            num_samples=self.config.num_samples,
            device=self.device,
            numbers=numbers,
        )

    def features(self, x_BS: Tensor) -> AudioFeatures:
        """Turns prepared waveforms into the log-mels of both encoders. It has no weights: training may do it once."""
        x48_BS = resample(x_BS, self.config.htsat.mel.sample_rate_hz, self.config.clap.mel.sample_rate_hz)
        return AudioFeatures(self.htsat.encoder.mel(x_BS), self.clap.encoder.mel(x48_BS))

    def hear(self, features: AudioFeatures) -> Heard:
        """Runs both audio encoders. Training may compute their output once: the paper freezes them."""
        return Heard(self.htsat(features.htsat), self.clap(features.clap))

    def audio_memory(self, vectors_BNC: Tensor) -> Tensor:
        """Repeats time vectors and adds positions, for the Q-Former. shape (B, N, C) -> (B, num_audio_tokens, D)"""
        # A repeated vector differs from its copies by its position alone, so it is projected before it is repeated.
        memory_BND = self.audio_in(vectors_BNC).repeat_interleave(self.config.token_repeat, dim=1)
        memory_BND = self.dropout(memory_BND) + self.audio_positions.weight
        normal_BND: Tensor = self.audio_norm(memory_BND)
        return normal_BND

    def encode_audio(self, vectors_BNC: Tensor) -> Tensor:
        """Turns HTSAT's time vectors into audio tokens. shape (B, N, C) -> (B, Q, D)"""
        audio_BQD: Tensor = self.audio_out(self.qformer(self.audio_memory(vectors_BNC)))
        return audio_BQD

    def embed_metadata(self, ids_BT: Tensor) -> Tensor:
        """Embeds words and tags; BART adds positions. shape (B, T) -> (B, T, D)"""
        vocab = self.tokenizer.vocab
        is_tag = ids_BT >= vocab
        words = self.words(ids_BT.masked_fill(is_tag, PAD))
        tags = self.tags((ids_BT - vocab).clamp(min=0))
        return torch.where(is_tag[..., None], tags, words)

    def clap_token(self, heard: Heard) -> Tensor:
        """Returns CLAP's vector as an input token of BART. shape -> (B, 1, D)"""
        token_BD: Tensor = self.clap_norm(self.clap_in(heard.clap))
        return token_BD[:, None]

    def encoder_input(
        self,
        heard: Heard,
        metadata_ids_BT: Tensor | None,
        metadata_mask_BT: Tensor | None,
        *,
        with_clap: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Builds the input of BART's encoder (equation 3): embeddings (B, T, D) and mask (B, T).

        `metadata_ids_BT`, `metadata_mask_BT`: of shape (B, Tm), or None where there is no metadata.
        """
        audio_BQD = self.encode_audio(heard.vectors)
        batch = len(audio_BQD)
        boa_D = self.words.weight[BOS]
        parts = [boa_D.expand(batch, 1, -1), audio_BQD]
        if with_clap:
            parts.insert(0, self.clap_token(heard))
        if self.eoa is not None:
            parts.append(self.eoa.expand(batch, 1, -1))
        mask_BT = torch.ones(batch, sum(part.shape[1] for part in parts), dtype=torch.long, device=self.device)
        if metadata_ids_BT is not None and metadata_mask_BT is not None:
            parts.append(self.dropout(self.embed_metadata(metadata_ids_BT)))
            mask_BT = torch.cat([mask_BT, metadata_mask_BT], dim=1)
        return torch.cat(parts, dim=1), mask_BT

    def encode(
        self, heard: Heard, metadata_ids_BT: Tensor | None, metadata_mask_BT: Tensor | None, *, clap_place: str
    ) -> tuple[Tensor, Tensor]:
        """Returns what BART's decoder reads, (B, T, D), and which of it counts, (B, T).

        `clap_place`: see `config.clap_in_loss`.
        """
        at_input = clap_place == "encoder_input"
        embeddings_BTD, mask_BT = self.encoder_input(heard, metadata_ids_BT, metadata_mask_BT, with_clap=at_input)
        memory_BTD = self.bart.model.encoder(inputs_embeds=embeddings_BTD, attention_mask=mask_BT).last_hidden_state
        if at_input:
            return memory_BTD, mask_BT
        memory_BTD = torch.cat([self.clap_token(heard), memory_BTD], dim=1)
        return memory_BTD, torch.cat([mask_BT.new_ones(len(mask_BT), 1), mask_BT], dim=1)

    # --- training and generation

    def forward(
        self,
        heard: Heard,
        metadata_ids_BT: Tensor | None,
        metadata_mask_BT: Tensor | None,
        labels_BL: Tensor,
    ) -> Tensor:
        """Returns the logits of every caption token under teacher forcing. shape -> (B, L, vocab)"""
        memory_BTD, mask_BT = self.encode(heard, metadata_ids_BT, metadata_mask_BT, clap_place=self.config.clap_in_loss)
        first = labels_BL.new_full((len(labels_BL), 1), EOS)  # BART's decoder starts from </s>
        previous_BL = torch.cat([first, labels_BL[:, :-1]], dim=1)
        logits_BLV: Tensor = self.bart(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory_BTD),
            attention_mask=mask_BT,
            decoder_input_ids=previous_BL.masked_fill(previous_BL == IGNORE, PAD),
            use_cache=False,
        ).logits
        return logits_BLV

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
        """Searches captions for prepared input. shape -> (B, up to 1 + max_new_tokens), starting with </s> <s>"""
        memory_BTD, mask_BT = self.encode(heard, metadata_ids_BT, metadata_mask_BT, clap_place="encoder_input")
        return beam_search(self.bart, memory_BTD, mask_BT, num_beams=num_beams, max_new_tokens=max_new_tokens)

    def caption(
        self,
        waveforms: Sequence[object],
        sample_rate_hz: int,
        titles: Sequence[str | None] | None = None,
        video_captions: Sequence[str | None] | None = None,
        *,
        num_beams: int = 2,
        max_new_tokens: int = 30,
        batch_size: int | None = None,
        return_clap: bool = False,
    ) -> Any:
        """Returns one caption per waveform, a list[str]; with `return_clap` also CLAP's unit vectors, in a tuple.

        The vectors are of shape (B, P), float32, on the CPU.

        `waveforms`: any number of (samples,) or (channels, samples), tensors or numpy arrays, floating or int16, up to
        the window. `titles`, `video_captions`: what is known about each clip; "" or None where nothing is.
        `batch_size`: clips at once, 16 on a CPU and 256 on a GPU if not given; halved where memory runs out.

        Silence gets a caption, too: leaving it out is the caller's.

        Clips with metadata of similar length share a batch. A clip's caption does not depend on the others: in another
        batch its logits differ by rounding alone, which decides only between two captions of equal score.
        Deterministic: the same call gives the same captions, bit for bit on a CPU with a fixed number of threads.
        Raises ValueError, naming the index, for a clip that is empty, shorter than 0.1 s, longer than the
        window, or has NaN or infinity in it.
        """
        captioning.check_options(self.config.bart, num_beams, max_new_tokens, batch_size)
        titles = captioning.one_text_each(titles, len(waveforms), "titles")
        video_captions = captioning.one_text_each(video_captions, len(waveforms), "video captions")
        clips = captioning.long_enough(waveforms, sample_rate_hz, self.config.window_s)
        prompts = [
            self.tokenizer.metadata_ids(title, seen, self.config.max_metadata_tokens)
            for title, seen in zip(titles, video_captions, strict=True)
        ]
        texts = [""] * len(clips)
        clap_BP = torch.zeros(len(clips), self.config.clap_width)

        def caption_some(chosen: Sequence[int]) -> None:
            x_BS = self._prepare([clips[i] for i in chosen], sample_rate_hz, numbers=chosen)
            ids_BT, mask_BT = (x.to(self.device) for x in self.tokenizer.padded([prompts[i] for i in chosen]))
            heard = self.hear(self.features(x_BS))
            out_BL = self.generate(heard, ids_BT, mask_BT, num_beams=num_beams, max_new_tokens=max_new_tokens)
            clap_BP[torch.tensor(chosen)] = heard.clap.float().cpu()
            for i, row in zip(chosen, out_BL.tolist(), strict=True):
                texts[i] = self.tokenizer.decode(row)

        # Audio always fills the window, so it is the prompts whose lengths differ. Padding is what a batch wastes.
        order = sorted(range(len(clips)), key=lambda i: len(prompts[i]))
        default = captioning.GPU_BATCH if self.device.type == "cuda" else captioning.CPU_BATCH
        was_training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                captioning.in_batches(order, batch_size or default, caption_some)
        finally:
            self.train(was_training)
        return (texts, clap_BP) if return_clap else texts

    # --- files

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, dtype: torch.dtype = torch.float32, compiled: bool = False
    ) -> "AutoCap":
        """Loads the model in a folder, or in a repository of the Hugging Face hub ("owner/name"), in eval mode.

        "demo" is the bundled model.

        Raises ModelFilesError that names what is missing, damaged or of another model.

        `dtype`: of the weights; `dtype_for(device)` names the fastest. `compiled`: see `compile_encoders`.
        """
        folder = pretrained.find(path)
        model = cls._new(folder)
        files.fill(model, files.read_weights(folder / files.WEIGHTS), folder / files.WEIGHTS)
        files.check_finite(model, folder / files.WEIGHTS)
        if compiled:
            model.compile_encoders()
        return model.to(dtype).eval()

    @classmethod
    def check_pretrained(cls, path: str | Path) -> None:
        """Raises ModelFilesError where `from_pretrained` would, without the time and memory that a model takes."""
        folder = pretrained.find(path)
        with torch.device("meta"):
            model = cls._new(folder)
        files.check_weights(folder / files.WEIGHTS, model)

    @classmethod
    def _new(cls, folder: Path) -> "AutoCap":
        config = pretrained.read_config(folder / files.CONFIG)
        tokenizer = CaptionTokenizer.load(folder / files.TOKENIZER)
        try:
            return cls(config, tokenizer)
        except ValueError as error:
            raise ModelFilesError(f"{folder}: {error}") from error

    def compile_encoders(self) -> None:
        """Lets torch.compile fuse the audio encoders, the Q-Former and BART's encoder when they first run.

        It takes minutes, and again for other shapes: for long runs on a GPU. Results differ by rounding.
        """
        for module in (self.htsat, self.clap, self.qformer, self.bart.model.encoder):
            module.compile()

    def save_pretrained(self, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Writes config.json, model.safetensors and tokenizer.json. `dtype`: of the stored weights, if another."""
        pretrained.save(path, self.config, self.tokenizer, self, dtype)


def caption_loss(logits_BLV: Tensor, labels_BL: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Returns the cross entropy, averaged over all caption tokens of the batch."""
    return F.cross_entropy(
        logits_BLV.flatten(0, 1), labels_BL.flatten(), ignore_index=IGNORE, label_smoothing=label_smoothing
    )


def dtype_for(device: torch.device) -> torch.dtype:
    """Returns the precision in which a device captions fastest: bfloat16 on GPUs, and on CPUs that multiply in it."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has_bf16 else torch.float32


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
