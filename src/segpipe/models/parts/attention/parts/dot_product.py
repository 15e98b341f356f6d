"""Deterministic dot-product attention."""

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def attend(
    query_NQD: torch.Tensor, key_NKD: torch.Tensor, value_NKV: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """Gives softmax(scale * query @ key^T) @ value, the softmax over the keys.

    Args:
        query_NQD: (N, num_queries, D) float.
        key_NKD: (N, num_keys, D) float.
        value_NKV: (N, num_keys, V) float.
        scale: of the energies; None for 1 / sqrt(D).

    Returns:
        (N, num_queries, V) of the same dtype.
    """
    # One head each: torch's fast kernels take four dimensions only.
    query, key, value = query_NQD.unsqueeze(1), key_NKD.unsqueeze(1), value_NKV.unsqueeze(1)
    if query.is_cuda:
        # The backward passes of CUDA's fused kernels add up in any order, even when torch only warns of such.
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(query, key, value, scale=scale).squeeze(1)
    return F.scaled_dot_product_attention(query, key, value, scale=scale).squeeze(1)
