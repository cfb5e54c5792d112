"""What a CPU computes faster in another way, and is compiled for longer for.

Owns where that is so, and the compiler's options. What XLA multiplies with by
itself takes one thread for a product of many small matrices, such as
attention's; oneDNN, which jaxlib has too, takes all. For the few rows of a
decoding step it is slower, and jax cannot keep its programs between starts. A
training step's layers, one after another in place of a loop, copy nothing into
arrays of all layers. What serves is left as it is, so that it starts soon.
Knows no model and no step.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.config import AUTO

WAYS = (AUTO, 'fast', 'plain')
# Features from which AUTO is fast: a narrower model is compiled for longer at
# each start than its steps gain.
WIDE = 512
# Layers up to which a step is unrolled: it is compiled for as much longer.
SHALLOW = 12

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
    dtype: of the weights as they are kept. Of narrow numbers, whose products
      are summed in float32, oneDNN takes none; of eight bits an unrolled step
      would keep all in float32.
    features: the width of the model.
  """
  wanted = way == 'fast' or way == AUTO and features >= WIDE
  alone = platform == 'cpu' and devices == 1
  return wanted and alone and dtype == jnp.float32 and options() is not None


@functools.cache
def options() -> dict[str, Any] | None:
  """`compiler_options` of jax.jit for products of many rows.

  None where jax has no oneDNN for this CPU, or no such options, which it calls
  experimental.
  """
  product, x = jax.jit(jnp.matmul, compiler_options=_ONEDNN), jnp.ones((8, 8))
  try:
    program = product.lower(x, x).compile().as_text()
  except jax.errors.JaxRuntimeError:
    return None
  if '__onednn_fusion' not in program:
    return None
  # jax says of each that it cannot be kept.
  warnings.filterwarnings('ignore', '.*persistent compilation.*onednn')
  return _ONEDNN


class Either:
  """One of two jitted functions, by what it is called with.

  A fast step takes more memory, so where that is short it is the plain one.
  """

  def __init__(self, first: Callable[..., bool], yes: Any, no: Any):
    self._first, self._yes, self._no = first, yes, no

  def __call__(self, *args: Any) -> Any:
    return self._of(args)(*args)

  def lower(self, *args: Any) -> Any:
    return self._of(args).lower(*args)

  def _of(self, args: tuple) -> Any:
    return self._yes if self._first(*args) else self._no
