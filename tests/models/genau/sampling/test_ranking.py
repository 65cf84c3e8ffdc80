"""CLAP scores sounds for texts."""

import dataclasses

import pytest
import torch

from autorecap.models.autocap import AutoCap
from autorecap.models.bpe import BpeTokenizer
from autorecap.models.clap import TEXT_SIZES, ClapText
from autorecap.models.genau.sampling.ranking import ClapScorer


def test_clap_scores_sounds_for_texts():
    captioner = AutoCap.from_pretrained(AutoCap.DEMO)
    tokenizer = BpeTokenizer.load(AutoCap.DEMO / "tokenizer.json")
    torch.manual_seed(0)
    scorer = ClapScorer(captioner, ClapText(TEXT_SIZES["demo"], tokenizer).eval())
    sounds = [torch.randn(16_000), torch.randn(170_000), torch.zeros(8_000)]
    scores = scorer(sounds, ["rain", "wind", ""])
    assert len(scores) == 3 and all(-1 <= score <= 1 for score in scores)
    assert scorer(sounds[:1], ["rain"]) == pytest.approx(scores[:1], abs=1e-5)
    other = ClapText(dataclasses.replace(TEXT_SIZES["demo"], joint_width=32), tokenizer)
    with pytest.raises(ValueError, match="vectors of 32 numbers, the captioner's CLAP of 64"):
        ClapScorer(captioner, other)
