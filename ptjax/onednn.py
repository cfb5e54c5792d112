"""A CPU's products by oneDNN: compiler options for programs that gain by it.

Owns when they are given. What XLA multiplies with by itself takes one thread
for a product of many small matrices, such as attention's; oneDNN, which jaxlib
has too, takes all. For the few rows of a decoding step it is slower, and jax
cannot keep its programs between starts. Knows no model and no function.
"""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.config import AUTO

ASKED = (AUTO, 'on', 'off')
# Features from which AUTO takes it: a narrower model is compiled for longer at
# each start than its products gain.
WIDE = 512

_OPTIONS = {
  'xla_cpu_use_onednn': True,
  # Each product by itself: of some that are fused with more oneDNN dies.
  'xla_cpu_experimental_onednn_fusion_type': (
    'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT'
  ),
}


def options(
  asked: str, platform: str, *, devices: int, dtype: jnp.dtype, features: int
) -> dict[str, Any] | None:
  """`compiler_options` of jax.jit; None leaves XLA as it is.

  Args:
    asked: one of ASKED; `on` differs from AUTO in the width alone.
    platform, devices: of the mesh. Only a CPU alone takes it.
    dtype: of the weights. Of narrow numbers, whose products are summed in
      float32, oneDNN takes none.
    features: the width of the model.
  """
  enough = asked == 'on' or asked == AUTO and features >= WIDE
  if not enough or platform != 'cpu' or devices > 1 or dtype != jnp.float32:
    return None
  return _OPTIONS if _known() else None


@functools.cache
def _known() -> bool:
  """Whether this jax has such options; they are called experimental."""
  try:
    jax.jit(lambda x: x, compiler_options=_OPTIONS).lower(0.0).compile()
  except jax.errors.JaxRuntimeError:
    return False
  # jax says of each that it cannot be kept.
  warnings.filterwarnings('ignore', '.*persistent compilation.*onednn')
  return True
