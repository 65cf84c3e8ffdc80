"""Beam search finds captions over BART's decoder, for several clips at once.

The result is that of transformers' `generate` with BART's settings (forced <s> and </s>, no 3-gram twice, the search of
a clip ends when it has as many finished captions as beams, scores are mean log-probabilities). The work differs: beams
share what they read. A clip's audio and metadata become keys and values once, not once per beam; and what its beams
have written lies in one memory, in which a beam reads the entries of its own past, so that nothing is copied when beams
fork. Shape suffixes: B clips, K beams, Q tokens fed at once, S entries of the memory, T input length, D width, V
vocabulary, L caption length, C candidates.
"""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from autorecap.models.bpe import BOS, EOS, PAD

NGRAM = 3  # no sequence of this many tokens occurs twice in a caption
NEVER = -1e9  # the score of what does not exist
CUDA_CHECK_STEPS = 4  # a GPU is asked every so many steps whether all clips are done: asking makes it wait


@torch.inference_mode()
def beam_search(bart: Any, memory_BTD: Tensor, mask_BT: Tensor, *, num_beams: int, max_new_tokens: int) -> Tensor:
    """Returns the best caption of every clip. shape -> (B, up to 1 + max_new_tokens), `</s> <s> ... </s>`, then padding

    `bart`: a BartForConditionalGeneration. `memory_BTD`: what its encoder gave. `mask_BT`: which of it may be read.
    """
    batch, max_length = len(memory_BTD), 1 + max_new_tokens
    device = memory_BTD.device
    if max_new_tokens == 1:
        return torch.full((batch, 2), EOS, device=device)
    written_BKL = torch.full((batch, num_beams, max_length), PAD, device=device)
    written_BKL[:, :, 0], written_BKL[:, :, 1] = EOS, BOS
    finished_BKL = written_BKL.clone()
    finished_scores_BK = torch.full((batch, num_beams), NEVER, device=device)
    decoder = _Decoder(bart, memory_BTD, mask_BT, num_slots=2 + num_beams * (max_new_tokens - 1))
    in_top_C = torch.arange(2 * num_beams, device=device) < num_beams

    # All beams begin alike, with a start that is forced: one is enough until the first choice.
    own_BKS = torch.ones(2, 2, dtype=torch.bool, device=device).tril().expand(batch, -1, -1)
    x_BQD = decoder.step(written_BKL[:, 0, :2], first_position=0, readable_BQS=own_BKS)[:, -1:]
    own_BKS = own_BKS[:, -1:]
    scores_BK = torch.zeros(batch, 1, device=device)
    new_beams_KK = torch.eye(num_beams, dtype=torch.bool, device=device).expand(batch, -1, -1)
    for length in range(2, max_length):
        if is_last := length == max_length - 1:  # </s> is forced, whatever the decoder says
            scores_BC, parents_BC = scores_BK, torch.arange(scores_BK.shape[1], device=device).expand(batch, -1)
            tokens_BC = torch.full_like(parents_BC, EOS)
        else:
            log_probs_BKV = decoder.log_probs(x_BQD)
            _ban_repeats(log_probs_BKV, written_BKL[:, : log_probs_BKV.shape[1], :length])
            total_BN = (scores_BK[..., None] + log_probs_BKV).flatten(1)
            scores_BC, chosen_BC = total_BN.topk(2 * num_beams)
            parents_BC, tokens_BC = chosen_BC // decoder.vocab, chosen_BC % decoder.vocab
        candidates_BCL = _rows(written_BKL, parents_BC)
        candidates_BCL[:, :, length] = tokens_BC

        ends_BC = tokens_BC == EOS
        is_full_B1 = (finished_scores_BK > NEVER / 2).all(dim=1, keepdim=True)
        counts_BC = ends_BC & in_top_C[: ends_BC.shape[1]] & ~is_full_B1
        merged_BN = torch.cat([finished_scores_BK, torch.where(counts_BC, scores_BC / length, NEVER)], dim=1)
        finished_scores_BK, best_BK = merged_BN.topk(num_beams)
        finished_BKL = _rows(torch.cat([finished_BKL, candidates_BCL], dim=1), best_BK)
        if is_last:
            break
        is_asked = device.type != "cuda" or length % CUDA_CHECK_STEPS == 0
        if is_asked and bool((finished_scores_BK > NEVER / 2).all()):
            break

        scores_BK, going_BK = torch.where(ends_BC, scores_BC + NEVER, scores_BC).topk(num_beams)
        written_BKL = _rows(candidates_BCL, going_BK)
        own_BKS = torch.cat([_rows(own_BKS, parents_BC.gather(1, going_BK)), new_beams_KK], dim=2)
        x_BQD = decoder.step(written_BKL[:, :, length], first_position=length, readable_BQS=own_BKS)
    best_BL = finished_BKL[:, 0]
    return best_BL[:, : 1 + int((best_BL != PAD).any(dim=0).nonzero().max())]


def _rows(x_BNX: Tensor, rows_BM: Tensor) -> Tensor:
    """Takes the chosen rows of each clip. shape (B, N, X), (B, M) -> (B, M, X)"""
    return x_BNX.gather(1, rows_BM[..., None].expand(-1, -1, x_BNX.shape[2]))


def _ban_repeats(log_probs_BKV: Tensor, written_BKL: Tensor) -> None:
    """Makes every token impossible that would complete a sequence of `NGRAM` tokens for the second time."""
    if written_BKL.shape[2] < NGRAM:
        return
    grams_BKNG = written_BKL.unfold(2, NGRAM, 1)
    repeats_BKN = (grams_BKNG[..., :-1] == written_BKL[:, :, None, 1 - NGRAM :]).all(dim=-1)
    limits_BKN = torch.where(repeats_BKN, -torch.inf, torch.inf).to(log_probs_BKV.dtype)
    log_probs_BKV.scatter_reduce_(2, grams_BKNG[..., -1], limits_BKN, "amin")


class _Decoder:
    """A decoder is BART's, with what it reads, and a memory of what it has written."""

    def __init__(self, bart: Any, memory_BTD: Tensor, mask_BT: Tensor, *, num_slots: int) -> None:
        self.bart, self.decoder = bart, bart.model.decoder
        self.vocab = bart.config.vocab_size
        self.num_heads = bart.config.decoder_attention_heads
        self.used = 0  # slots of the memory
        batch, _, width = memory_BTD.shape
        head_width = width // self.num_heads
        self.own = memory_BTD.new_empty(len(self.decoder.layers), 2, batch, self.num_heads, num_slots, head_width)
        self.heard = [
            tuple(self._heads(project(memory_BTD)).contiguous() for project in (attention.k_proj, attention.v_proj))
            for attention in (layer.encoder_attn for layer in self.decoder.layers)
        ]
        # No mask where nothing is masked: attention is faster without.
        self.readable = None if bool(mask_BT.all()) else mask_BT[:, None, None].bool()

    def step(self, tokens_BQ: Tensor, *, first_position: int, readable_BQS: Tensor) -> Tensor:
        """Reads tokens and remembers them. shape (B, Q) and which entries each may read -> (B, Q, D)

        Q tokens at `first_position`, or one after the other where the memory is empty.
        """
        decoder = self.decoder
        num = tokens_BQ.shape[1]
        position_Q = torch.arange(num, device=tokens_BQ.device) if not self.used else first_position
        offset = decoder.embed_positions.offset
        positions = decoder.embed_positions.weight[position_Q + offset]
        x_BQD: Tensor = decoder.layernorm_embedding(decoder.embed_tokens(tokens_BQ) + positions)
        new, self.used = slice(self.used, self.used + num), self.used + num
        for layer, own, (heard_k, heard_v) in zip(decoder.layers, self.own, self.heard, strict=True):
            attention = layer.self_attn
            own[0, :, :, new] = self._heads(attention.k_proj(x_BQD))
            own[1, :, :, new] = self._heads(attention.v_proj(x_BQD))
            k, v = own[:, :, :, : self.used]
            out_BQD = self._attend(attention, x_BQD, k, v, readable_BQS[:, None])
            x_BQD = layer.self_attn_layer_norm(x_BQD + out_BQD)
            out_BQD = self._attend(layer.encoder_attn, x_BQD, heard_k, heard_v, self.readable)
            x_BQD = layer.encoder_attn_layer_norm(x_BQD + out_BQD)
            out_BQD = layer.fc2(layer.activation_fn(layer.fc1(x_BQD)))
            x_BQD = layer.final_layer_norm(x_BQD + out_BQD)
        return x_BQD

    def log_probs(self, x_BQD: Tensor) -> Tensor:
        """Returns the log-probability of every next token, in float32. shape (B, Q, D) -> (B, Q, V)"""
        logits_BQV: Tensor = self.bart.lm_head(x_BQD) + self.bart.final_logits_bias
        return logits_BQV.float().log_softmax(dim=-1)

    def _heads(self, x_BND: Tensor) -> Tensor:
        return rearrange(x_BND, "b n (h d) -> b h n d", h=self.num_heads)

    def _attend(self, attention: Any, x_BQD: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        heads = F.scaled_dot_product_attention(self._heads(attention.q_proj(x_BQD)), k, v, attn_mask=mask)
        out_BQD: Tensor = attention.out_proj(rearrange(heads, "b h n d -> b n (h d)"))
        return out_BQD
