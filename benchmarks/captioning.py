"""AutoCap at its released size, random weights: against a plain composition of transformers' modules, and on a GPU.

    python -m benchmarks.captioning [--rounds 1] [--size base] [--card benchmarks/results/captioning.txt]

Needs what `models` needs, and no more. Both sides get the same 16 clips as 16-bit PCM at 32 kHz, the same log-mels and
the same weights; both write 20 tokens with 2 beams; that they write the same ones is checked. On a CPU the figure is
CPU seconds of the process on one thread, of rounds that alternate. On a GPU it is clips a second from PCM on the host.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    Blip2QFormerConfig,
    Blip2QFormerModel,
    ClapAudioConfig,
    ClapAudioModel,
    ClapAudioModelWithProjection,
    GenerationConfig,
)
from transformers.modeling_outputs import BaseModelOutput

from autorecap.models.autocap import SIZES, AutoCap, CaptionTokenizer
from autorecap.models.autocap.model import Heard, dtype_for
from autorecap.models.autocap.search import beam_search
from autorecap.models.bpe import BOS, EOS, PAD
from autorecap.models.swin import SwinConfig
from benchmarks import processor

NUM_TOKENS, NUM_BEAMS, BATCH, SECONDS = 20, 2, 16, 10
TITLES = ("Rain", "A dog in the park", "Walking through the old town on a Sunday morning, no talking")
GPU_BATCHES = (64, 128, 256, 512)
TARGET_RATIO, TARGET_BF16_RATIO, TARGET_CLIPS_PER_S = 0.9, 0.6, 1_000


class Plain(nn.Module):
    """What one would build of transformers' parts: CLAP, HTSAT and Q-Former from there, BART's own `generate`."""

    def __init__(self, model: AutoCap) -> None:
        super().__init__()
        self.model = model  # for its front-end, projections and BART, whose weights are thus the same
        config = model.config
        self.clap = ClapAudioModelWithProjection(_clap_config(config.clap, config.clap_width))
        self.clap.audio_model.audio_encoder.load_state_dict(model.clap.encoder.swin.state_dict())
        for ours, theirs in ((0, "linear1"), (2, "linear2")):
            getattr(self.clap.audio_projection, theirs).load_state_dict(model.clap.projection[ours].state_dict())
        self.htsat = ClapAudioModel(_clap_config(config.htsat, config.clap_width))
        self.htsat.audio_encoder.load_state_dict(model.htsat.encoder.swin.state_dict())
        size = config.qformer
        self.qformer = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=size.width,
                num_hidden_layers=size.num_layers,
                num_attention_heads=size.num_heads,
                intermediate_size=size.ffn_width,
                layer_norm_eps=size.eps,
                cross_attention_frequency=1,
                encoder_hidden_size=config.bart.width,
                use_qformer_text_input=False,
            )
        )
        self._fill_qformer()
        self.eval()

    def _fill_qformer(self) -> None:
        ours = self.model.qformer
        self.qformer.layernorm.load_state_dict(ours.norm.state_dict())
        layers: Iterable[tuple[Any, Any]] = zip(ours.layers, self.qformer.encoder.layer, strict=True)
        for layer, theirs in layers:
            pairs = [(layer.ffn.inner, theirs.intermediate_query.dense), (layer.ffn.outer, theirs.output_query.dense)]
            pairs.append((layer.ffn.norm, theirs.output_query.LayerNorm))
            for a, b in ((layer.self_attention, theirs.attention), (layer.cross_attention, theirs.crossattention)):
                pairs += [(getattr(a, part), getattr(b.attention, part)) for part in ("query", "key", "value")]
                pairs += [(a.out, b.output.dense), (a.norm, b.output.LayerNorm)]
            for a, b in pairs:
                b.load_state_dict(a.state_dict())

    @torch.inference_mode()
    def generate(self, clips: list[Tensor], titles: list[str]) -> Tensor:
        """Ids as transformers gives them."""
        model, config = self.model, self.model.config
        features = model.features(model.prepare(clips, 32_000))
        clap = self.clap(features.clap[:, None], is_longer=torch.zeros(len(clips), 1, dtype=torch.bool)).audio_embeds
        clap = nn.functional.normalize(clap, dim=-1)
        vectors = self.htsat(features.htsat[:, None]).last_hidden_state.mean(dim=2).transpose(1, 2)
        memory = model.audio_in(vectors.repeat_interleave(config.token_repeat, dim=1))
        memory = model.audio_norm(memory + model.audio_positions.weight)
        queries = model.qformer.queries.expand(len(clips), -1, -1)
        audio = model.audio_out(self.qformer(query_embeds=queries, encoder_hidden_states=memory).last_hidden_state)
        ids, mask = model.tokenizer.metadata(titles, [""] * len(titles), config.max_metadata_tokens)
        boa = model.words.weight[BOS].expand(len(clips), 1, -1)
        clap_token = model.clap_norm(model.clap_in(clap))[:, None]
        embeddings = torch.cat([clap_token, boa, audio, model.embed_metadata(ids)], dim=1)
        mask = torch.cat([mask.new_ones(len(clips), embeddings.shape[1] - mask.shape[1]), mask], dim=1)
        encoded = model.bart.model.encoder(inputs_embeds=embeddings, attention_mask=mask)
        settings = GenerationConfig(
            num_beams=NUM_BEAMS,
            max_new_tokens=NUM_TOKENS,
            early_stopping=True,
            no_repeat_ngram_size=3,
            forced_bos_token_id=BOS,
            forced_eos_token_id=EOS,
            decoder_start_token_id=EOS,
            bos_token_id=BOS,
            pad_token_id=PAD,
            eos_token_id=EOS,
        )
        memory = BaseModelOutput(last_hidden_state=encoded.last_hidden_state)
        return model.bart.generate(encoder_outputs=memory, attention_mask=mask, generation_config=settings)


def _clap_config(config: SwinConfig, joint_width: int) -> ClapAudioConfig:
    return ClapAudioConfig(
        window_size=config.window,
        num_mel_bins=config.mel.num_mels,
        spec_size=config.image,
        patch_size=config.patch,
        patch_stride=[config.patch, config.patch],
        patch_embeds_hidden_size=config.width,
        hidden_size=config.out_width,
        depths=list(config.depths),
        num_attention_heads=list(config.heads),
        num_hidden_layers=len(config.depths),
        projection_dim=joint_width,
        enable_fusion=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--size", default="base", choices=sorted(SIZES))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--card", type=Path, help="also write what is printed here to a file")
    options = parser.parse_args()
    device = torch.device(options.device)
    lines: list[str] = []

    def say(line: str = "") -> None:
        print(line, flush=True)
        lines.append(line)

    say(f"$ python -m benchmarks.captioning --size {options.size} --rounds {options.rounds} --device {options.device}")
    say(f"{time.strftime('%Y-%m-%d')}, {_hardware(device)}, Python {platform.python_version()},")
    say(f"torch {torch.__version__}, transformers {transformers.__version__}")
    say(f"size {options.size}, random weights, {NUM_TOKENS} tokens, {NUM_BEAMS} beams, clips of {SECONDS} s")
    say()
    torch.manual_seed(0)
    # As released: no eoa token.
    model = AutoCap(replace(SIZES[options.size], use_eoa=False), CaptionTokenizer.train(TITLES, 300)).eval()
    if device.type == "cuda":
        gpu(model.to(device, torch.bfloat16), options.rounds, say)
    else:
        torch.set_num_threads(1)
        cpu(model, options.rounds, say)
    if options.card:
        options.card.write_text("\n".join(lines) + "\n", encoding="utf-8")


def cpu(model: AutoCap, rounds: int, say: Callable[[str], None]) -> None:
    """Against the plain composition, and bfloat16 against float32."""
    plain = Plain(model)
    clips, titles = _clips(BATCH), [TITLES[i % len(TITLES)] for i in range(BATCH)]

    def ours() -> Any:
        return model.caption(clips, 32_000, titles, num_beams=NUM_BEAMS, max_new_tokens=NUM_TOKENS)

    def theirs() -> Any:
        return plain.generate(clips, titles)

    ids = theirs()
    assert ids.shape[1] == 1 + NUM_TOKENS, "a caption ended before its time"
    with torch.inference_mode():
        prompt = model.tokenizer.metadata(titles, [""] * BATCH, model.config.max_metadata_tokens)
        heard = model.hear(model.features(model.prepare(clips, 32_000)))
        own = model.generate(heard, *prompt, num_beams=NUM_BEAMS, max_new_tokens=NUM_TOKENS)
    assert torch.equal(ids, own), "the two sides write different captions"
    assert [model.tokenizer.decode(row) for row in ids.tolist()] == ours()
    say(f"CPU seconds per clip, batch of {BATCH}, one thread, median of {rounds} alternating rounds; same captions")
    times = [(_cpu_seconds(theirs), _cpu_seconds(ours)) for _ in range(rounds)]
    plain_s, ours_s = (statistics.median(column) / BATCH for column in zip(*times, strict=True))
    ratio = statistics.median(b / a for a, b in times)
    say(f"  plain composition, float32  {plain_s:7.3f}")
    say(f"  ours, float32               {ours_s:7.3f}   {ratio:.2f} of plain (target {TARGET_RATIO})")
    if dtype_for(torch.device("cpu")) is torch.float32:
        say("  this processor does not multiply in bfloat16: not measured")
        return
    table = _modules(model, clips, titles, time.process_time, lambda: None)
    model.to(torch.bfloat16)
    ours()
    half = [_cpu_seconds(ours) for _ in range(rounds)]
    half_s = statistics.median(half) / BATCH
    say(f"  ours, bfloat16              {half_s:7.3f}   {half_s / ours_s:.2f} of float32 (target {TARGET_BF16_RATIO})")
    say("")
    say("milliseconds per clip by module           float32  bfloat16")
    for name, seconds in _modules(model, clips, titles, time.process_time, lambda: None).items():
        say(f"  {name:38} {1000 * table[name] / BATCH:9.1f} {1000 * seconds / BATCH:9.1f}")


def gpu(model: AutoCap, rounds: int, say: Callable[[str], None]) -> None:
    """Clips a second from PCM on the host, the share of what the GPU can multiply, and where the time goes."""
    ceiling = _matmul_flops_per_s(model.device)
    best, best_batch = 0.0, GPU_BATCHES[0]
    say("bfloat16, from 16-bit PCM on the host to texts")
    for batch in GPU_BATCHES:
        clips, titles = _clips(batch) * 2, [TITLES[i % len(TITLES)] for i in range(2 * batch)]
        rates = []
        for _ in range(rounds + 1):
            torch.cuda.synchronize()
            started = time.perf_counter()
            model.caption(clips, 32_000, titles, num_beams=NUM_BEAMS, max_new_tokens=NUM_TOKENS, batch_size=batch)
            torch.cuda.synchronize()
            rates.append(len(clips) / (time.perf_counter() - started))
        rate = statistics.median(rates[1:])  # the first one warms up
        say(f"  batch {batch:4}  {rate:8.0f} clips/s   {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
        if rate > best:
            best, best_batch = rate, batch
    with FlopCounterMode(display=False) as counter:
        model.caption(_clips(4), 32_000, num_beams=NUM_BEAMS, max_new_tokens=NUM_TOKENS)
    per_clip = counter.get_total_flops() / 4
    say(f"best {best:.0f} clips/s (target {TARGET_CLIPS_PER_S} on one H200), {per_clip / 1e9:.0f} GFLOP per clip:")
    say(f"{best * per_clip / 1e12:.0f} TFLOP/s of {ceiling / 1e12:.0f} measured for a matrix product of 8192: ")
    say(f"{best * per_clip / ceiling:.1%}")
    clips, titles = _clips(best_batch), [TITLES[i % len(TITLES)] for i in range(best_batch)]
    say(f"microseconds per clip by module, batch {best_batch}")
    for name, seconds in _modules(model, clips, titles, time.perf_counter, torch.cuda.synchronize).items():
        say(f"  {name:38} {1e6 * seconds / best_batch:9.1f}")


@torch.inference_mode()
def _modules(
    model: AutoCap, clips: list[Tensor], titles: list[str], clock: Callable[[], float], wait: Callable[[], None]
) -> dict[str, float]:
    """Seconds of each part on one batch, one after the other; the second of two runs."""
    seconds: dict[str, float] = {}

    def timed(name: str, run: Callable[[], Any]) -> Any:
        wait()
        started = clock()
        out = run()
        wait()
        seconds[name] = clock() - started
        return out

    def once() -> None:
        ids, mask = timed(
            "tokens", lambda: model.tokenizer.metadata(titles, [""] * len(titles), model.config.max_metadata_tokens)
        )
        ids, mask = ids.to(model.device), mask.to(model.device)
        x_BS = timed("waveforms to the device, normalised", lambda: model.prepare(clips, 32_000))
        features = timed("resampling and log-mels", lambda: model.features(x_BS))
        vectors = timed("HTSAT", lambda: model.htsat(features.htsat))
        clap = timed("CLAP", lambda: model.clap(features.clap))
        timed("Q-Former and projections", lambda: model.encode_audio(vectors))
        heard = Heard(vectors, clap)
        embeddings, whole = model.encoder_input(heard, ids, mask)
        memory = timed(
            "BART's encoder",
            lambda: model.bart.model.encoder(inputs_embeds=embeddings, attention_mask=whole).last_hidden_state,
        )
        timed(
            "beam search",
            lambda: beam_search(model.bart, memory, whole, num_beams=NUM_BEAMS, max_new_tokens=NUM_TOKENS),
        )

    once()
    once()
    return seconds


def _clips(count: int) -> list[Tensor]:
    """16-bit PCM at 32 kHz."""
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(SECONDS * 32_000, generator=generator) * 3_000).to(torch.int16) for _ in range(min(count, 64))
    ] * max(1, count // 64)


def _cpu_seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def _matmul_flops_per_s(device: torch.device, side: int = 8_192, repeats: int = 20) -> float:
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        a @ b
    torch.cuda.synchronize()
    return 2 * side**3 * repeats / (time.perf_counter() - started)


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"one thread of {processor()}"


if __name__ == "__main__":
    main()
