"""The vocoder: against the official numbers, official files of every kind, and what it promises.

Also proves models/genau/official/vocoder.py.
"""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from autorecap.models.genau.audio import SILENCE
from autorecap.models.genau.official.vocoder import config_from_official, from_official
from autorecap.models.genau.vocoder.model import SIZES, Vocoder, VocoderConfig
from tests.support.genau_vectors import Vectors, shapes_of

SMALL = VocoderConfig(size="official", width=64)  # the vectors' small one
TINY = VocoderConfig(size="tiny", num_mels=8, width=32, kernels=(3, 5), dilations=(1, 2))


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors()


@pytest.fixture
def tiny() -> Vocoder:
    torch.manual_seed(0)
    vocoder = Vocoder(TINY).eval()
    for parameter in vocoder.parameters():  # it starts so quiet that there would be little to compare
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0.0, 1 / math.sqrt(parameter[0].numel()))
    return vocoder


def mels(batch: int, frames: int, bands: int = 8) -> Tensor:
    return torch.randn(batch, bands, frames, generator=torch.Generator().manual_seed(0))


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# --- the official numbers


@torch.no_grad()
def test_waveforms_are_the_official_ones(vectors: Vectors) -> None:
    vocoder = Vocoder(SMALL)
    state, unused = from_official(vectors.fill(vocoder.state_dict()), SMALL)
    assert unused == []
    vocoder.load_state_dict(state)
    mel_BMT = vectors.input("vocoder_small.mel", 1, 64, 16)
    expected = vectors["vocoder_small.wav"][:, 0]
    torch.testing.assert_close(vocoder(mel_BMT), expected[:, : 16 * 160], atol=1e-5, rtol=0)


def test_names_and_shapes_are_the_official_ones(vectors: Vectors) -> None:
    with torch.device("meta"):
        vocoder = Vocoder(VocoderConfig())
        folded = vectors.shapes["vocoder_in_vae_ckpt_after_remove_weight_norm"]
        assert shapes_of(vocoder.state_dict(), "vocoder.") == folded
        given = {
            name: torch.ones(shape)
            for name, shape in vectors.shapes["vocoder_file_generator_dict_with_weight_norm"].items()
        }
    assert config_from_official(given, size="base") == VocoderConfig()


def test_parameter_counts_are_those_of_the_released_model() -> None:
    with torch.device("meta"):
        vocoder = Vocoder(VocoderConfig())
        assert num_parameters(vocoder) == 55_264_897
        vocoder.add_weight_norm()
        assert num_parameters(vocoder) == 55_285_762  # a length per slice more
        vocoder.remove_weight_norm()
        assert num_parameters(vocoder) == 55_264_897


# --- official files


def weight_normed(state: dict[str, Tensor], length: str, direction: str) -> dict[str, Tensor]:
    """As an official training leaves them, with directions of any length."""
    out = {}
    for name, tensor in state.items():
        stem = name.removesuffix("weight")
        if stem == name:
            out[name] = tensor
        else:
            out[stem + length] = torch.linalg.vector_norm(tensor, dim=(1, 2), keepdim=True)
            out[stem + direction] = tensor * (1 + torch.arange(len(tensor)))[:, None, None]
    return out


@pytest.mark.parametrize(
    ("length", "direction"),
    [("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")],
)
@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
def test_weight_norm_of_either_kind_is_folded(tiny: Vocoder, length: str, direction: str, prefix: str) -> None:
    given = {prefix + name: t for name, t in weight_normed(tiny.state_dict(), length, direction).items()}
    config = config_from_official(
        given, {"upsample_rates": [5, 4, 2, 2, 2], "resblock_dilation_sizes": [[1, 2], [1, 2]]}, size="tiny"
    )
    assert config == TINY
    state, unused = from_official(given | {"steps": torch.zeros(())}, config)
    assert unused == ["steps"]
    assert list(state) == list(tiny.state_dict())
    for name, tensor in tiny.state_dict().items():
        torch.testing.assert_close(state[name], tensor)


def test_folding_is_what_torch_does() -> None:
    torch.manual_seed(0)
    vocoder = Vocoder(TINY)
    vocoder.add_weight_norm()
    for parameter in vocoder.parameters():
        nn.init.normal_(parameter)
    state, unused = from_official(vocoder.state_dict(), TINY)
    assert unused == []
    vocoder.remove_weight_norm()
    for name, tensor in vocoder.state_dict().items():
        torch.testing.assert_close(state[name], tensor)


def test_official_weights_that_do_not_fit_are_refused_by_name(tiny: Vocoder) -> None:
    good = weight_normed(tiny.state_dict(), "weight_g", "weight_v")
    with pytest.raises(ValueError, match=r"conv_pre.weight_g is missing, which belongs to conv_pre.weight_v"):
        from_official({name: t for name, t in good.items() if name != "conv_pre.weight_g"}, TINY)
    with pytest.raises(ValueError, match=r"conv_post.bias is missing"):
        from_official({name: t for name, t in good.items() if name != "conv_post.bias"}, TINY)
    with pytest.raises(ValueError, match=r"ups.0.weight holds NaN"):
        from_official(good | {"ups.0.weight_v": torch.zeros_like(good["ups.0.weight_v"])}, TINY)
    with pytest.raises(ValueError, match=r"has shape \(32, 8, 7\), expected \(64, 64, 7\)"):
        from_official(good, SMALL)
    with pytest.raises(ValueError, match="not vocoder weights"):
        config_from_official({"something.else": torch.zeros(1)})
    with pytest.raises(ValueError, match="upsample_rates"):
        config_from_official(good, {"resblock": "1"})


# --- forward


@pytest.mark.parametrize("frames", [1, 2, 50])
@torch.no_grad()
def test_output_is_160_samples_per_frame(tiny: Vocoder, frames: int) -> None:
    x_BS = tiny(mels(2, frames))
    assert x_BS.shape == (2, 160 * frames)
    assert float(x_BS.abs().max()) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_every_size_gives_a_clip_of_the_exact_length(size: str) -> None:
    with torch.device("meta"):
        assert Vocoder(SIZES[size])(torch.empty(2, 64, 1_024)).shape == (2, 163_840)


@torch.no_grad()
def test_a_clip_does_not_depend_on_its_batch(tiny: Vocoder) -> None:
    mel_BMT = mels(3, 20)
    together = tiny(mel_BMT)
    torch.testing.assert_close(together[1:2], tiny(mel_BMT[1:2]), atol=1e-6, rtol=0)
    assert torch.equal(together, tiny(mel_BMT))


def test_gradients_reach_every_weight_and_the_spectrogram(tiny: Vocoder) -> None:
    mel_BMT = mels(1, 6).requires_grad_()
    tiny(mel_BMT).square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in tiny.parameters())
    assert mel_BMT.grad is not None
    assert bool((mel_BMT.grad != 0).any())


def test_weight_norm_changes_what_is_trained_and_not_what_is_heard(tiny: Vocoder) -> None:
    mel_BMT = mels(1, 6)
    expected, names = tiny(mel_BMT), list(tiny.state_dict())
    tiny.add_weight_norm()
    torch.testing.assert_close(tiny(mel_BMT), expected, atol=1e-6, rtol=0)
    tiny(mel_BMT).square().sum().backward()
    assert all(p.grad is not None for p in tiny.parameters())
    tiny.remove_weight_norm()
    assert sorted(tiny.state_dict()) == sorted(names)
    torch.testing.assert_close(tiny(mel_BMT), expected, atol=1e-6, rtol=0)
    tiny.remove_weight_norm()  # nothing left to fold: no error


@torch.no_grad()
def test_bf16_is_close_to_fp32_and_comes_out_as_fp32(tiny: Vocoder) -> None:
    mel_BMT = mels(1, 10)
    expected = tiny(mel_BMT)
    found = tiny.bfloat16()(mel_BMT)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)


def test_a_spectrogram_of_silence_gives_a_finite_waveform(tiny: Vocoder) -> None:
    assert bool(torch.isfinite(tiny.synthesise(torch.full((1, 8, 10), SILENCE))).all())


def test_nan_is_refused_with_the_clip_it_is_in(tiny: Vocoder) -> None:
    mel_BMT = mels(3, 4)
    mel_BMT[1, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"the log-mel of clip 1 holds NaN"):
        tiny.synthesise(mel_BMT)
    with torch.no_grad():
        tiny.conv_post.bias.fill_(math.nan)
    with pytest.raises(ValueError, match=r"the waveform of clip 0 .* its weights must be broken"):
        tiny.synthesise(mels(1, 4))


@pytest.mark.parametrize("shape", [(2, 7, 4), (8, 4), (2, 8, 0)])
def test_spectrograms_of_another_shape_are_refused(tiny: Vocoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(batch, 8, frames\)"):
        tiny(torch.zeros(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rates": (5, 4, 2, 2)}, "4 rates, but 5 rate_kernels"),
        ({"rates": (5, 4, 2, 2, 4)}, "make 320 samples, expected 160"),
        ({"rate_kernels": (4, 16, 8, 4, 4)}, "a kernel must reach its rate"),
        ({"width": 1_000}, "multiple of 32"),
        ({"kernels": (3, 8)}, "odd"),
        ({"kernels": ()}, r"kernels are \(\)"),
        ({"kernels": (-1, 3)}, "each 1 or more"),
        ({"dilations": (0, 1)}, "dilations are"),
        ({"rates": (-5, -4, 2, 2, 2)}, "rates are"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VocoderConfig(), **change)


def test_a_config_survives_its_json() -> None:
    for config in (*SIZES.values(), TINY):
        assert VocoderConfig.from_dict(config.to_dict()) == config
