"""`AutoCap.caption`: batches, memory, precision; and the audio encoders' own way through transformers' layers.

Also proves models/swin.py.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import ClapAudioModel

from autorecap.demo.sounds import KINDS, synthesise
from autorecap.demo.synthesis import SAMPLE_RATE_HZ
from autorecap.models.audio import LogMel, MelConfig
from autorecap.models.autocap import AutoCap
from autorecap.models.autocap.captioning import in_batches, is_out_of_memory
from autorecap.models.swin import SwinConfig, SwinEncoder

RATE = SAMPLE_RATE_HZ
TITLES = ["", "Rain", "A very long title about everything and nothing, and a dog", "x", "Sunday at the sea", "", "Park"]


@pytest.fixture(scope="module")
def demo() -> AutoCap:
    torch.set_num_threads(1)
    return AutoCap.from_pretrained(AutoCap.DEMO)


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Of different lengths, types and channels."""
    drawn = [synthesise(KINDS[i], 0.5 + 1.5 * i, np.random.default_rng([7, i])) for i in range(len(TITLES))]
    drawn[1] = (drawn[1] * 32_767).astype(np.int16)
    drawn[2] = np.stack([drawn[2], 0.5 * drawn[2]])
    drawn[3] = np.stack([drawn[3]] * 7)
    return drawn


@pytest.mark.parametrize("sizes", [(2,), pytest.param((1, 3, 4, 5, 6), marks=pytest.mark.slow)])
def test_a_clip_has_one_caption_alone_and_in_any_batch(
    demo: AutoCap, clips: list[np.ndarray], sizes: tuple[int, ...]
) -> None:
    together, clap_BP = demo.caption(clips, RATE, TITLES, return_clap=True)
    assert clap_BP.shape == (len(clips), demo.config.clap_width)
    assert clap_BP.dtype == torch.float32
    torch.testing.assert_close(clap_BP.norm(dim=1), torch.ones(len(clips)))
    for size in sizes:
        assert demo.caption(clips, RATE, TITLES, batch_size=size) == together
    order = [4, 0, 6, 2, 5, 1, 3]
    shuffled = demo.caption([clips[i] for i in order], RATE, [TITLES[i] for i in order], batch_size=3)
    assert shuffled == [together[i] for i in order]
    alone, vector = demo.caption(clips[4:5], RATE, TITLES[4:5], return_clap=True)
    assert alone == [together[4]]
    torch.testing.assert_close(vector[0], clap_BP[4], atol=1e-5, rtol=0)


def test_prepared_samples_do_not_depend_on_neighbours(demo: AutoCap, clips: list[np.ndarray]) -> None:
    for rate in (RATE, 44_100):
        together = demo.prepare(clips, rate) if rate == RATE else demo.prepare(clips[:4], rate)
        for i, x_S in enumerate(together):
            torch.testing.assert_close(demo.prepare([clips[i]], rate)[0], x_S, atol=1e-6, rtol=0)


def test_seven_channels_are_mixed_down(demo: AutoCap, clips: list[np.ndarray]) -> None:
    torch.testing.assert_close(demo.prepare([clips[3]], RATE), demo.prepare([clips[3][0]], RATE), atol=1e-6, rtol=0)


def test_a_clip_that_is_not_finite_is_named_by_its_place_in_the_call(demo: AutoCap, clips: list[np.ndarray]) -> None:
    bad = np.full(RATE, np.inf, np.float32)
    with pytest.raises(ValueError, match="waveform 2: holds NaN or inf"):
        demo.caption([clips[0], clips[4], bad], RATE, ["a much longer title than the others", "", "x"], batch_size=1)


def test_memory_that_runs_out_halves_the_batch_from_there_on() -> None:
    tried: list[list[int]] = []

    def work(items: list[int]) -> None:
        tried.append(list(items))
        if len(items) > 2:
            torch.empty(1 << 60, dtype=torch.uint8)  # a real failure of the CPU's allocator

    in_batches(list(range(9)), 8, work)  # type: ignore[arg-type]
    assert tried == [list(range(8)), [0, 1, 2, 3], [0, 1], [2, 3], [4, 5], [6, 7], [8]]


def test_what_is_no_lack_of_memory_is_raised_and_one_clip_that_does_not_fit_too() -> None:
    def fail(items: object) -> None:
        raise RuntimeError("another reason")

    with pytest.raises(RuntimeError, match="another reason"):
        in_batches([1, 2], 2, fail)

    def never_fits(items: object) -> None:
        raise torch.OutOfMemoryError("no")

    with pytest.raises(torch.OutOfMemoryError):
        in_batches([1, 2], 2, never_fits)
    assert is_out_of_memory(MemoryError())


@pytest.mark.parametrize("options", [{"num_beams": 0}, {"max_new_tokens": 0}, {"batch_size": 0}])
def test_impossible_options_are_refused_by_name(demo: AutoCap, clips: list[np.ndarray], options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        demo.caption(clips[:1], RATE, **options)


def test_half_precision_hears_nearly_the_same_and_keeps_its_decibels(clips: list[np.ndarray]) -> None:
    full = AutoCap.from_pretrained(AutoCap.DEMO)
    half = AutoCap.from_pretrained(AutoCap.DEMO, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.htsat.encoder.swin.batch_norm.running_mean.dtype == torch.float32
    x_BS = full.prepare(clips, RATE)
    with torch.inference_mode():
        for ours, theirs in zip(half.features(x_BS), full.features(x_BS), strict=True):
            assert torch.equal(ours, theirs)
    _, clap_BP = full.caption(clips, RATE, TITLES, return_clap=True)
    texts, half_BP = half.caption(clips, RATE, TITLES, return_clap=True)
    assert len(texts) == len(clips)
    assert float((clap_BP * half_BP).sum(dim=1).min()) > 0.99


@pytest.mark.slow
def test_compiled_encoders_hear_the_same(demo: AutoCap, clips: list[np.ndarray]) -> None:
    compiled = AutoCap.from_pretrained(AutoCap.DEMO, compiled=True)
    assert compiled.caption(clips[:2], RATE, TITLES[:2]) == demo.caption(clips[:2], RATE, TITLES[:2])


# --- the audio encoders


def configs() -> Iterator[SwinConfig]:
    yield SwinConfig(mel=MelConfig(), width=16, depths=(2, 2, 3, 2), heads=(1, 2, 4, 8))
    yield SwinConfig(mel=MelConfig(), patch=16, width=32, depths=(1, 2), heads=(4, 8))


@pytest.mark.parametrize("config", list(configs()))
def test_tokens_in_window_order_go_the_way_of_transformers(config: SwinConfig) -> None:
    torch.manual_seed(0)
    ours = SwinEncoder(config).eval()
    for parameter in ours.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    theirs = ClapAudioModel(ours.swin.config).eval()
    theirs.audio_encoder.load_state_dict(ours.swin.state_dict())
    mel_BTM = torch.randn(2, 1_001, 64) * 10 - 40
    with torch.inference_mode():
        vectors_BNC, pooled_BC = ours(mel_BTM)
        reference = theirs(mel_BTM[:, None])
    torch.testing.assert_close(vectors_BNC, reference.last_hidden_state.mean(dim=2).transpose(1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled_BC, reference.pooler_output, atol=1e-5, rtol=0)


def test_gradients_flow_through_windows_and_shifts() -> None:
    encoder = SwinEncoder(SwinConfig(mel=MelConfig(), patch=16, width=32, depths=(2, 2), heads=(4, 8))).train()
    encoder(torch.randn(2, 1_001, 64))[0].square().sum().backward()
    missing = [name for name, p in encoder.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    # A key's bias moves all scores of a query alike, so its gradient is 0 but for rounding.
    assert [name for name in missing if not name.endswith("key.bias")] == []


def test_a_batch_of_log_mels_is_its_clips_bit_by_bit() -> None:
    x_BS: Tensor = torch.randn(3, 32_000, generator=torch.Generator().manual_seed(0))
    log_mel = LogMel(MelConfig())
    assert torch.equal(log_mel(x_BS), torch.cat([log_mel(x_S[None]) for x_S in x_BS]))
