"""The beam search against transformers' `generate`."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BartForConditionalGeneration, GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from autorecap.models.autocap.config import BartSize
from autorecap.models.autocap.model import _bart_config
from autorecap.models.autocap.search import beam_search
from autorecap.models.bpe import BOS, EOS, PAD


def random_bart(seed: int, vocab: int, end_bias: float) -> BartForConditionalGeneration:
    """Weights large enough for varied captions; the bias makes them end early."""
    torch.manual_seed(seed)
    size = BartSize(vocab=vocab, width=32, num_layers=2, num_heads=4, ffn_width=64, max_positions=64)
    bart = BartForConditionalGeneration(_bart_config(size)).eval()
    for parameter in bart.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.25)
    bart.final_logits_bias[0, EOS] = end_bias
    return bart


def memory() -> tuple[Tensor, Tensor]:
    return torch.randn(5, 9, 32), (torch.arange(9) < torch.tensor([9, 5, 9, 1, 7])[:, None]).long()


def of_transformers(
    bart: BartForConditionalGeneration, memory_BTD: Tensor, mask_BT: Tensor, num_beams: int, max_new_tokens: int
) -> Tensor:
    settings = GenerationConfig(
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        min_length=2,
        early_stopping=num_beams > 1,
        no_repeat_ngram_size=3,
        forced_bos_token_id=BOS,
        forced_eos_token_id=EOS,
        decoder_start_token_id=EOS,
        bos_token_id=BOS,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    outputs = BaseModelOutput(last_hidden_state=memory_BTD)
    generate: Any = bart.generate  # type: ignore[misc]  # which its stubs hold for another class
    return generate(encoder_outputs=outputs, attention_mask=mask_BT, generation_config=settings)


@pytest.mark.parametrize("num_beams", [1, 2, 3, 4])
@pytest.mark.parametrize("seeds", [(0, 4, 8), pytest.param(range(12), marks=pytest.mark.slow)])
def test_it_writes_what_generate_writes(seeds: Iterable[int], num_beams: int) -> None:
    ended_early = 0
    for seed in seeds:
        bart = random_bart(seed, vocab=(12, 40, 300)[seed % 3], end_bias=(0.0, 2.0, 5.0)[seed // 3 % 3])
        memory_BTD, mask_BT = memory()
        for max_new_tokens in (1, 3, 12):
            theirs = of_transformers(bart, memory_BTD, mask_BT, num_beams, max_new_tokens)
            ours = beam_search(bart, memory_BTD, mask_BT, num_beams=num_beams, max_new_tokens=max_new_tokens)
            assert torch.equal(ours, theirs), (seed, max_new_tokens)
            ended_early += theirs.shape[1] < 1 + max_new_tokens
    assert ended_early  # else the end of a search was not tested


@pytest.mark.parametrize("num_beams", [1, 2, 4])
def test_a_clip_is_written_the_same_alone_and_in_any_batch(num_beams: int) -> None:
    bart = random_bart(1, vocab=300, end_bias=2.0)
    memory_BTD, mask_BT = memory()
    together = beam_search(bart, memory_BTD, mask_BT, num_beams=num_beams, max_new_tokens=20)
    for i, row in enumerate(together):
        length = int(mask_BT[i].sum())  # alone, without the padding of its neighbours
        alone = beam_search(
            bart,
            memory_BTD[i : i + 1, :length],
            mask_BT[i : i + 1, :length],
            num_beams=num_beams,
            max_new_tokens=20,
        )[0]
        assert torch.equal(row[: len(alone)], alone)
        assert bool((row[len(alone) :] == PAD).all())


def test_no_three_tokens_come_twice() -> None:
    bart = random_bart(3, vocab=12, end_bias=-50.0)
    out_BL = beam_search(bart, *memory(), num_beams=2, max_new_tokens=40)
    for row in out_BL.tolist():
        triples = list(zip(row, row[1:], row[2:], strict=False))
        assert len(set(triples)) == len(triples)
