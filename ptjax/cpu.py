"""What a CPU computes faster in another way, and is compiled for longer for.

Owns where that is so, and the compiler's options. What XLA multiplies with by
itself takes one thread for a product of many small matrices, such as
attention's; oneDNN, which jaxlib has too, takes all. For the few rows of a
decoding step it is slower, and jax cannot keep its programs between starts. A
training step's layers, one after another in place of a loop, copy nothing into
arrays of all layers. What serves is left as it is, so that it starts soon.
Knows no model and no function.
"""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.config import AUTO

WAYS = (AUTO, 'fast', 'plain')
# Features from which AUTO is fast: a narrower model is compiled for longer at
# each start than its steps gain.
WIDE = 512

_ONEDNN = {
  'xla_cpu_use_onednn': True,
  # Each product by itself: of some that are fused with more oneDNN dies.
  'xla_cpu_experimental_onednn_fusion_type': (
    'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'
  ),
}


def fast(
  way: str, platform: str, *, devices: int, dtype: jnp.dtype, features: int
) -> bool:
  """Whether a run's programs are the faster ones.

  Args:
    way: one of WAYS; `fast` differs from AUTO in the width alone.
    platform, devices: of the mesh. Only a CPU alone is asked for more.
    dtype: of the weights. Of narrow numbers, whose products are summed in
      float32, oneDNN takes none.
    features: the width of the model.
  """
  wanted = way == 'fast' or way == AUTO and features >= WIDE
  return wanted and platform == 'cpu' and devices == 1 and dtype == jnp.float32


@functools.cache
def options() -> dict[str, Any] | None:
  """`compiler_options` of jax.jit for products of many rows.

  None where this jax has no such options, which it calls experimental.
  """
  try:
    jax.jit(lambda x: x, compiler_options=_ONEDNN).lower(0.0).compile()
  except jax.errors.JaxRuntimeError:
    return None
  # jax says of each that it cannot be kept.
  warnings.filterwarnings('ignore', '.*persistent compilation.*onednn')
  return _ONEDNN
