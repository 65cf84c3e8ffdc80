"""PatchGAN scores patches of a spectrogram and passes gradients."""

from autorecap.models.genau.vae.discriminator import PatchDiscriminator
from autorecap.models.genau.vae.loss import as_image
from tests.models.genau.vae.test_model import mels


def test_discriminator_scores_patches_and_passes_gradients() -> None:
    discriminator = PatchDiscriminator(width=8)
    image = as_image(mels(2, 96, 64)).requires_grad_()
    scores = discriminator(image)
    assert scores.shape == (2, 1, 10, 6)
    scores.square().sum().backward()
    assert image.grad is not None
    assert bool((image.grad != 0).any())
    assert all(bool((p.grad != 0).any()) for p in discriminator.parameters() if p.grad is not None)
