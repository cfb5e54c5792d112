"""The softmax of attention: weights from scores, a block of keys at a time.

Owns what of it is kept for the backward pass: the weights, in the type that
they are mixed in, and no score. Knows no head and no bias.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.models import stack


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def over(scores: Sequence[jax.Array], dtype: jnp.dtype) -> list[jax.Array]:
  """The softmax over the last axes of all blocks together, a block each.

  Not a merge of one softmax a block by their logsumexp, whose gradient is cut
  in JAX's attention.
  """
  tops = [jnp.max(block, axis=-1, keepdims=True) for block in scores]
  top = tops[0]
  for other in tops[1:]:
    top = jnp.maximum(top, other)
  top = jax.lax.stop_gradient(top)
  powers = [jnp.exp(block - top) for block in scores]
  total = sum(jnp.sum(block, axis=-1, keepdims=True) for block in powers)
  return [(block / total).astype(dtype) for block in powers]


@over.defjvp
def _over_jvp(dtype: jnp.dtype, primals: Any, tangents: Any) -> Any:
  """From the weights alone: scores, powers and sums are not made again."""
  weights = [stack.keep_attention(block) for block in over(*primals, dtype)]
  (slopes,) = tangents
  wide = [w.astype(slope.dtype) for w, slope in zip(weights, slopes)]
  mean = sum(
    jnp.sum(w * slope, axis=-1, keepdims=True) for w, slope in zip(wide, slopes)
  )
  return weights, [
    (w * (slope - mean)).astype(dtype) for w, slope in zip(wide, slopes)
  ]
