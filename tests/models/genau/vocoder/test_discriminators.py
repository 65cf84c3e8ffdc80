"""HiFi-GAN's discriminators judge waveforms of any length, and their losses are what the paper says."""

import torch

from autorecap.models.genau.vocoder.discriminators import (
    DiscriminatorsConfig,
    VocoderDiscriminators,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)


def test_discriminators_judge_waveforms_of_any_length_and_pass_gradients_on() -> None:
    torch.manual_seed(0)
    judges = VocoderDiscriminators(DiscriminatorsConfig(width=16))
    real_BS, made_BS = torch.randn(2, 3_001), torch.randn(2, 3_001, requires_grad=True)
    real, made = judges(real_BS), judges(made_BS)
    assert len(real) == 8 and all(scores.shape[0] == 2 and scores.ndim == 2 for scores, _ in real)
    assert [len(features) for _, features in real] == [6] * 5 + [8] * 3
    (adversarial_loss(made) + feature_loss(real, made)).backward()
    assert made_BS.grad is not None and bool((made_BS.grad != 0).any())
    assert feature_loss(real, real) == 0
    perfect = [(torch.ones(2, 3), features) for _, features in real]
    fooled = [(torch.zeros(2, 3), features) for _, features in real]
    assert discriminator_loss(perfect, fooled) == 0 and adversarial_loss(perfect) == 0
    assert discriminator_loss(fooled, perfect) == 16
