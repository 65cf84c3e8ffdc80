"""AutoCap against the released code, activation by activation.

The vectors come from the official code with made weights (tests/support/autocap_official.py), which are converted here.

Also proves models/autocap/htsat.py.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from autorecap.models import files
from autorecap.models.audio import prepare_waveform, resample
from autorecap.models.autocap import SIZES, AutoCap, CaptionTokenizer
from autorecap.models.autocap.model import Heard, caption_loss
from autorecap.models.autocap.official import from_official, official_config, why_unused
from autorecap.models.autocap.tokens import IGNORE
from autorecap.models.bpe import EOS, PAD, SPECIAL_TOKENS
from tests.support.autocap_official import draw, shapes, stereo_clip, waveform, weights
from tests.support.places import VECTORS

TITLES, SEEN = ["Rain on a roof", "Dog"], ["a tin roof in the rain", ""]
TARGETS = ["a dog barks", "rain falls on a roof"]
CLOSE, DECIBELS, LOSS = 1e-4, 5e-3, 1e-5


def byte_tokenizer(vocab: int) -> CaptionTokenizer:
    """No merges: a byte has the id 4 + its value, and <mask> is the last id."""
    alphabet = {pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(chr(b))[0][0]: b for b in range(128)}
    ids = {char: 4 + byte for char, byte in alphabet.items()} | {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    bpe = Tokenizer(models.BPE(ids | {"<mask>": vocab - 1}, [], unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    return CaptionTokenizer(bpe)


@pytest.fixture(scope="module")
def vectors() -> Any:
    return np.load(VECTORS / "parity" / "autocap-tiny.npz")


@pytest.fixture(scope="module")
def model() -> AutoCap:
    tensors = weights(SIZES["parity"])
    config = official_config(tensors)
    assert config.size == "parity"
    state, unused = from_official(tensors, config)
    assert all(why_unused(name) for name in unused)
    model = AutoCap(config, byte_tokenizer(config.bart.vocab)).eval()
    files.fill(model, state, "made weights")
    return model


@pytest.fixture(scope="module")
def x_BS() -> Tensor:
    return torch.from_numpy(np.stack([waveform(0), waveform(1)]))


@pytest.fixture(scope="module")
def heard(model: AutoCap, x_BS: Tensor) -> Heard:
    with torch.no_grad():
        return model.hear(model.features(x_BS))


@pytest.fixture
def released_loss(model: AutoCap) -> Iterator[None]:
    """The loss with the CLAP token behind the encoder, as the released code has it."""
    object.__setattr__(model.config, "clap_in_loss", "encoder_output")
    yield
    object.__setattr__(model.config, "clap_in_loss", "encoder_input")


def close(ours: Tensor, theirs: np.ndarray, atol: float = CLOSE) -> None:
    torch.testing.assert_close(ours.detach(), torch.from_numpy(np.asarray(theirs)).to(ours.dtype), atol=atol, rtol=0)


def same_logits(logits_BLV: Tensor, labels_BL: Tensor, vectors: Any, name: str) -> None:
    """Where there is something to predict: behind it, the released code masks the padding, which nothing reads."""
    kept = labels_BL != IGNORE
    close(logits_BLV[kept], vectors[f"{name}_v1"][kept.numpy()])
    np.testing.assert_array_equal(logits_BLV[kept].argmax(-1), vectors[f"{name}_argmax"][kept.numpy()])
    close(logits_BLV[kept].logsumexp(-1), vectors[f"{name}_lse"][kept.numpy()])


def metadata(model: AutoCap) -> tuple[Tensor, Tensor]:
    return model.tokenizer.metadata(TITLES, SEEN, model.config.max_metadata_tokens)


def labels(model: AutoCap) -> Tensor:
    return model.tokenizer.labels(TARGETS, model.config.max_caption_tokens)


def test_the_made_waveforms_are_those_of_the_vectors(vectors: Any) -> None:
    for i in range(2):
        np.testing.assert_array_equal(waveform(i)[:256], vectors[f"wave/head{i}"])
        np.testing.assert_array_equal(waveform(i)[::1000], vectors[f"wave/t1000_{i}"])
        assert (waveform(i).astype(np.float64) ** 2).sum() == pytest.approx(float(vectors[f"wave/sumsq{i}"]))


def test_a_clip_is_prepared_as_released(vectors: Any) -> None:
    stereo, rate = stereo_clip()
    x_S = prepare_waveform(stereo[0], rate, target_rate_hz=32_000, num_samples=320_000)  # it hears the first channel
    close(x_S[:100_000:10], vectors["preproc/wave_first100k_t10"])
    assert float(x_S.abs().sum()) == pytest.approx(float(vectors["preproc/sum_abs"]), rel=1e-4)


def test_front_end_and_htsat(model: AutoCap, heard: Heard, x_BS: Tensor, vectors: Any) -> None:
    with torch.no_grad():
        mel_BTM = model.features(x_BS).htsat
        close(mel_BTM[:, ::10], vectors["tiny/logmel_t10"], DECIBELS)
        close(model.htsat.encoder.image(mel_BTM)[:, 0, ::8, ::8], vectors["tiny/img_s8"], DECIBELS)
    close(heard.vectors, vectors["tiny/htsat_32"])


def test_clap(model: AutoCap, heard: Heard, x_BS: Tensor, vectors: Any) -> None:
    close(resample(x_BS, 32_000, 48_000)[:, ::1000], vectors["tiny/clap_wav_t1000"])
    close(heard.clap, vectors["tiny/clap_emb"])
    close(model.clap_token(heard)[:, 0], vectors["tiny/clap_tok"])


def test_q_former(model: AutoCap, heard: Heard, vectors: Any) -> None:
    with torch.no_grad():
        close(model.audio_in(heard.vectors), vectors["tiny/enc_proj_t32"])
        memory_BND = model.audio_memory(heard.vectors)
        close(memory_BND[:, ::64], vectors["tiny/qf_in_t64"])
        close(model.qformer(memory_BND), vectors["tiny/qf_out"])
        close(model.encode_audio(heard.vectors)[:, ::16], vectors["tiny/qf_proj_t16"])
        width = model.config.bart.width
        alone = draw("input|qformer", (2 * 1024, width)).astype(np.float64) * np.sqrt(width)
        x_BND = torch.from_numpy(alone.reshape(2, 1024, width).astype(np.float32))
        close(model.qformer(x_BND), vectors["tiny/iso/qformer_out"])
        x_BND = model.audio_norm(x_BND + model.audio_positions.weight)
        close(model.qformer(x_BND), vectors["tiny/iso/encode_audioQformer_audio_out"])


def test_metadata_and_targets(model: AutoCap, vectors: Any) -> None:
    ids_BT, mask_BT = metadata(model)
    np.testing.assert_array_equal(mask_BT.numpy(), vectors["tiny/meta_mask_with_eos"])
    last = ids_BT.gather(1, mask_BT.sum(1, keepdim=True) - 1)
    assert bool((last == EOS).all())
    words = ids_BT[:, :-1].masked_fill(ids_BT[:, :-1] == EOS, PAD)
    np.testing.assert_array_equal(words.numpy(), vectors["tiny/meta_ids_without_eos"])
    close(model.embed_metadata(ids_BT)[mask_BT.bool()], vectors["tiny/meta_emb"][mask_BT.bool().numpy()])
    labels_BL = labels(model)
    np.testing.assert_array_equal(labels_BL.masked_fill(labels_BL == IGNORE, PAD), vectors["tiny/train/caption_ids"])


def test_generation(model: AutoCap, heard: Heard, vectors: Any) -> None:
    ids_BT, mask_BT = metadata(model)
    with torch.no_grad():
        input_BTD, input_mask_BT = model.encoder_input(heard, ids_BT, mask_BT)
        kept = input_mask_BT.bool()[:, ::4]
        close(input_BTD[:, ::4][kept], vectors["tiny/gen/bart_enc_in_t4"][kept.numpy()])
        np.testing.assert_array_equal(input_mask_BT.numpy(), vectors["tiny/gen/bart_enc_mask"])
        memory_BTD, _ = model.encode(heard, ids_BT, mask_BT, clap_place="encoder_input")
        close(memory_BTD[:, ::4][kept], vectors["tiny/gen/bart_enc_out_t4"][kept.numpy()])
        for num_beams in (1, 2, 3):
            out_BL = model.generate(heard, ids_BT, mask_BT, num_beams=num_beams, max_new_tokens=29)
            np.testing.assert_array_equal(out_BL.numpy(), vectors[f"tiny/gen/ids_beam{num_beams}"])


def test_the_loss_of_the_paper(model: AutoCap, heard: Heard, vectors: Any) -> None:
    labels_BL = labels(model)
    with torch.no_grad():
        logits_BLV = model(heard, *metadata(model), labels_BL)
    same_logits(logits_BLV, labels_BL, vectors, "tiny/gen/tf_logits")
    close(caption_loss(logits_BLV, labels_BL, 0.1), vectors["tiny/gen/tf_loss_smooth0.1"], LOSS)
    close(caption_loss(logits_BLV, labels_BL), vectors["tiny/gen/tf_loss_nosmooth"], LOSS)


@pytest.mark.usefixtures("released_loss")
def test_the_loss_as_released(model: AutoCap, heard: Heard, vectors: Any) -> None:
    ids_BT, mask_BT = metadata(model)
    labels_BL = labels(model)
    with torch.no_grad():
        input_BTD, input_mask_BT = model.encoder_input(heard, ids_BT, mask_BT, with_clap=False)
        kept = input_mask_BT.bool()[:, ::4]
        close(input_BTD[:, ::4][kept], vectors["tiny/train/bart_enc_in_t4"][kept.numpy()])
        np.testing.assert_array_equal(input_mask_BT.numpy(), vectors["tiny/train/bart_enc_mask"])
        memory_BTD, _ = model.encode(heard, ids_BT, mask_BT, clap_place="encoder_output")
        close(memory_BTD[:, 1::4][kept], vectors["tiny/train/bart_enc_out_t4"][kept.numpy()])
        logits_BLV = model(heard, ids_BT, mask_BT, labels_BL)
        without_BLV = model(heard, None, None, labels_BL)
    same_logits(logits_BLV, labels_BL, vectors, "tiny/train/logits")
    close(caption_loss(logits_BLV, labels_BL, 0.1), vectors["tiny/train/loss"], LOSS)
    close(caption_loss(without_BLV, labels_BL, 0.1), vectors["tiny/train/loss_no_meta"], LOSS)


BART, SWIN = "bart.model.", "htsat.encoder.swin."
GRADIENTS = {  # of our parameters, by the official name
    "audio_query_tokens": "qformer.queries",
    "enc_to_dec_proj.weight": "audio_in.weight",
    "audio_position_embedding.weight": "audio_positions.weight",
    "audio_Qformer.bert.encoder.layer.0.crossattention.self.key.weight": "qformer.layers.0.cross_attention.key.weight",
    "audio_Qformer.bert.encoder.layer.1.output_query.dense.weight": "qformer.layers.1.ffn.outer.weight",
    "audio_qformer_proj.weight": "audio_out.weight",
    "clap_proj.weight": "clap_in.weight",
    "clap_layernorm.weight": "clap_norm.weight",
    "special_tokens_embed.special_token_embed.weight": "tags.weight",
    "decoder.model.shared.weight": "bart.model.shared.weight",
    "decoder.model.encoder.layers.0.fc1.weight": "bart.model.encoder.layers.0.fc1.weight",
    "decoder.model.decoder.layers.0.encoder_attn.q_proj.weight": BART + "decoder.layers.0.encoder_attn.q_proj.weight",
    "encoder.audio_enc.layers.0.blocks.0.mlp.fc1.weight": SWIN + "layers.0.blocks.0.intermediate.dense.weight",
    "encoder.audio_enc.layers.3.blocks.1.mlp.fc1.weight": SWIN + "layers.3.blocks.1.intermediate.dense.weight",
}


@pytest.mark.usefixtures("released_loss")
@pytest.mark.parametrize("with_encoder", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_gradients_as_released(model: AutoCap, heard: Heard, x_BS: Tensor, vectors: Any, with_encoder: bool) -> None:
    names = [name.removeprefix("tiny/train/grad_norm/") for name in vectors if "/grad_norm/" in name]
    assert set(names) == set(GRADIENTS)
    labels_BL = labels(model)
    model.requires_grad_(True).zero_grad()
    if with_encoder:
        heard = model.hear(model.features(x_BS))
    caption_loss(model(heard, *metadata(model), labels_BL), labels_BL, 0.1).backward()
    ours = dict(model.named_parameters())
    for official in names:
        if GRADIENTS[official].startswith(SWIN) and not with_encoder:
            continue
        gradient = ours[GRADIENTS[official]].grad
        assert gradient is not None
        assert float(gradient.norm()) == pytest.approx(float(vectors[f"tiny/train/grad_norm/{official}"]), rel=1e-3)
        close(gradient.flatten()[:64], vectors[f"tiny/train/grad_head/{official}"])
    model.zero_grad()


@pytest.mark.slow
def test_the_released_size_has_the_losses_of_the_released_code(x_BS: Tensor) -> None:
    """Of the full size three losses are known: as released, of the paper, and as released without metadata."""
    tensors = {key: torch.from_numpy(draw(key, shape)) for key, shape in _needed()}
    config = official_config(tensors)
    assert config.size == "base"
    model = AutoCap(config, byte_tokenizer(config.bart.vocab)).eval()
    files.fill(model, from_official(tensors, config)[0], "made weights")
    labels_BL, (ids_BT, mask_BT) = labels(model), metadata(model)
    with torch.no_grad():
        heard = model.hear(model.features(x_BS))
        paper = caption_loss(model(heard, ids_BT, mask_BT, labels_BL), labels_BL, 0.1)
        object.__setattr__(config, "clap_in_loss", "encoder_output")
        released = caption_loss(model(heard, ids_BT, mask_BT, labels_BL), labels_BL, 0.1)
        without = caption_loss(model(heard, None, None, labels_BL), labels_BL, 0.1)
    assert [float(released), float(paper), float(without)] == pytest.approx([11.440768, 11.452293, 11.445541], abs=LOSS)


def _needed() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the released size without aliases and constants."""
    for key, shape in shapes(SIZES["base"]):
        if not key.startswith("special_tokens_embed.model.") and not key.endswith("num_batches_tracked"):
            yield key, shape
