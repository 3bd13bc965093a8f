"""Attention whose keys have gates: 1 shows a token and 0 hides it, exactly as a mask does, and both have a gradient.

Shapes: R rows, A attention heads, T tokens, D dimensions of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

GATED = "unirex_ray_gated"
"""The library's name for it."""


class _GateGradient(torch.autograd.Function):
    """The identity on the output of attention, with a gradient for the gates of its keys.

    A gate's gradient is the change that the token makes when it is shown, all else left as it is: the output's gradient
    times p (v - o), with the token's value v, the output o without it and the share p of attention that it gets (or
    would get). The derivative of gated shares g exp(a) / sum(g exp(a)) will not do: at a hidden token that many heads
    wait for, such as SEP, it is orders of magnitude above that change, and at one that has all attention, it is 0.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        """Arguments: output [R, T, A, D], gates [R, T], query, key, value [R, A, T, D], bias or None, scaling."""
        output, gates, query, key, value, bias, ctx.scaling = inputs
        ctx.save_for_backward(gates > 0.5, query, key, value, bias)
        same: Tensor = output.view_as(output)
        return same

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the output, which passes, and of the gates."""
        shown, query, key, value, bias = ctx.saved_tensors
        dtype = torch.promote_types(query.dtype, torch.float32)
        shown = shown[:, None, None]
        logits = query.to(dtype) @ key.to(dtype).transpose(2, 3) * ctx.scaling
        if bias is not None:
            logits = logits + bias.to(dtype)
        logits = logits - logits.masked_fill(~shown, -torch.inf).logsumexp(-1, keepdim=True)
        share = logits.clamp(max=0).exp().masked_fill(~shown, 0.0)
        effect = gradient.to(dtype).transpose(1, 2) @ value.to(dtype).transpose(2, 3)
        # Relative to the key of the largest share, so that neither what the others add nor their share is rounded off.
        largest = share.argmax(-1, keepdim=True)
        effect = effect - effect.gather(-1, largest)
        effect = effect - (share * effect).sum(-1, keepdim=True)
        others = (1 - share).scatter(-1, largest, share.scatter(-1, largest, 0.0).sum(-1, keepdim=True))
        # With a shown token, the output is nearer to its value than without it: by the share that the others have.
        weight = torch.where(shown, share / others.clamp(min=torch.finfo(dtype).tiny), logits.sigmoid())
        return gradient, (weight * effect).sum((1, 2)), None, None, None, None, None


def gated_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The library's attention under the mask of the open gates.

    Args:
        query, key, value: [R, A, T, D]; groups of heads may share keys and values.
        attention_mask: gates [R, 1, 1, T], 0 or 1 in value.
        position_bias: added to the logits.
        options: what else the library gives its attention functions.

    Returns:
        [R, T, A, D], and no shares of attention.
    """
    if position_bias is not None:
        options["position_bias"] = position_bias
    attend = AttentionInterface()["sdpa"]
    output, _ = attend(module, query, key, value, attention_mask > 0.5, scaling=scaling, **options)
    heads = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(heads, dim=1) for part in (key, value))
    scaling = query.shape[3] ** -0.5 if scaling is None else scaling
    gates = attention_mask[:, 0, 0]
    output = _GateGradient.apply(output, gates, query, key, value, position_bias, scaling)  # type: ignore[no-untyped-call]
    return output, None


AttentionInterface.register(GATED, gated_attention)
