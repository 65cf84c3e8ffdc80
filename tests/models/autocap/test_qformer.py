"""The Q-Former: a vector per query, whatever the length, the order and the padding of the audio."""

import torch

from autorecap.models.autocap.config import QFormerConfig
from autorecap.models.autocap.qformer import QFormer


def test_qformer_gives_one_vector_per_query_however_long_the_audio() -> None:
    config = QFormerConfig(num_queries=6, width=32, num_heads=4, ffn_width=48)
    qformer = QFormer(config, memory_width=24).eval()
    for length in (1, 40):
        assert qformer(torch.randn(2, length, 24)).shape == (2, 6, 32)


def test_qformer_ignores_masked_audio() -> None:
    torch.manual_seed(0)
    qformer = QFormer(QFormerConfig(num_queries=6, width=32, num_heads=4, ffn_width=48), memory_width=24).eval()
    memory = torch.randn(2, 10, 24)
    mask = torch.arange(10)[None] < torch.tensor([[7], [4]])
    other = torch.where(mask[..., None], memory, torch.randn(2, 10, 24) * 100)
    torch.testing.assert_close(qformer(memory, mask), qformer(other, mask), atol=1e-6, rtol=0)
    torch.testing.assert_close(qformer(memory, mask)[1], qformer(memory[1:, :4])[0], atol=1e-5, rtol=0)


def test_qformer_does_not_depend_on_the_order_of_audio_tokens() -> None:
    torch.manual_seed(0)
    qformer = QFormer(QFormerConfig(num_queries=6, width=32, num_heads=4, ffn_width=48), memory_width=24).eval()
    memory = torch.randn(1, 10, 24)  # positions are added before it
    torch.testing.assert_close(qformer(memory), qformer(memory.flip(1)), atol=1e-5, rtol=0)


def test_gradients_reach_queries_and_audio() -> None:
    qformer = QFormer(QFormerConfig(num_queries=6, width=32, num_heads=4, ffn_width=48), memory_width=24)
    memory = torch.randn(2, 10, 24, requires_grad=True)
    qformer(memory).square().mul(torch.rand(2, 6, 32)).sum().backward()
    assert memory.grad is not None
    assert bool((memory.grad != 0).any())
    assert qformer.queries.grad is not None
    assert bool((qformer.queries.grad != 0).any())
