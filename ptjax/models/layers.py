"""The pieces of which models are made.

Owns embedding with virtual tokens, linear maps, norms and masks of attention.
Knows no architecture, no method and no file.
"""

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ptjax.models import int8, ports, products, stack

# Added to a score that must not count. Two of them still fit in float32, so a
# row in which nothing counts is uniform, not NaN.
MASKED = 0.25 * float(np.finfo(np.float32).min)

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'relu': jax.nn.relu,
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
  'gelu_new': functools.partial(jax.nn.gelu, approximate=True),
  'silu': jax.nn.silu,
  'swish': jax.nn.silu,
}


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
  """x, whose axes have these logical names: a mesh, if any, cuts it by them.

  `batch` are rows, `batch_at_vocab` are rows where x meets the vocabulary. What
  does not divide, such as a prompt that all rows read, is left to the compiler.
  """
  sizes = jax.sharding.get_abstract_mesh().shape
  for size, cut in zip(x.shape, nn.logical_to_mesh_axes(axes)):
    if size % math.prod(sizes.get(axis, 1) for axis in cut or ()):
      return x
  return nn.with_logical_constraint(x, axes)


def to_vocab(head: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
  """head(x), made where each part of the vocabulary lies."""
  inner = (None,) * (x.ndim - 2)
  y = head(constrain(x, 'batch_at_vocab', *inner, None))
  return constrain(y, 'batch_at_vocab', *inner, 'vocab')


class Linear(nn.Module):
  """A linear map; `axes` are the logical names of the kernel's.

  Its ports stand in `ports`. A frozen kernel may be one of `int8`.
  """

  features: int | tuple[int, ...]
  axes: tuple[str, ...]
  stddev: float
  bias: bool = False

  @nn.compact
  def __call__(
    self, x: jax.Array, *, out_dtype: jnp.dtype | None = None
  ) -> jax.Array:
    features = self.features
    features = (features,) if isinstance(features, int) else features
    out_dtype = out_dtype or x.dtype
    shape = (x.shape[-1], *features)
    kernel = weight(self, 'kernel', shape, axes=self.axes, stddev=self.stddev)
    scale_in = ports.read(self, 'scale_in')
    if scale_in is not None:
      x = x * scale_in.astype(x.dtype)
    if self.has_variable('params', int8.SCALE):
      y = int8.product(x, kernel, self.get_variable('params', int8.SCALE))
    else:
      y = products.over_last(x, kernel)
    if self.bias:
      zeros = nn.with_logical_partitioning(nn.initializers.zeros, self.axes[1:])
      bias = self.param('bias', zeros, features, jnp.float32)
      y = y + bias.astype(y.dtype)
    return stack.keep(self._tuned(x, y, out_dtype).astype(out_dtype))

  def narrow(self, dtype: jnp.dtype) -> jnp.dtype:
    """Of products beside this map: its kernel's type if narrow, or dtype."""
    if not self.has_variable('params', 'kernel'):
      return dtype
    kernel = nn.unbox(self.get_variable('params', 'kernel'))
    return products.narrow(dtype, kernel)

  def alone(self) -> jax.Array | None:
    """The kernel, where it is all that is there; None where more is, or none.

    More is a bias, a port, or the scale of eight bits.
    """
    params = self.variables.get('params', {})
    if self.variables.get(ports.COLLECTION) or list(params) != ['kernel']:
      return None
    return nn.unbox(params['kernel'])

  def _tuned(self, x: jax.Array, y: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """y and what the ports add to it, then their scale."""
    lora_a, lora_b = ports.read(self, 'lora_a'), ports.read(self, 'lora_b')
    if lora_a is not None:
      narrow = products.linear(x, lora_a)
      y = y + products.over_last(narrow, lora_b)
    delta_bias = ports.read(self, 'delta_bias')
    if delta_bias is not None:
      y = y + delta_bias.astype(y.dtype)
    scale = ports.read(self, 'scale')
    if scale is not None:
      # Kept for the scale's gradient, or the product would be made again.
      y = stack.keep(y.astype(dtype)).astype(y.dtype)
      y = y * scale.astype(y.dtype)
    if ports.read(self, 'adapter_down') is None:
      return y
    return y + self._bottleneck(stack.keep(y.astype(dtype)))

  def _bottleneck(self, x: jax.Array) -> jax.Array:
    """What the adapter behind the map makes of what comes out of it."""
    read = functools.partial(ports.read, self)
    wide = products.wide(x.dtype)
    hidden = products.linear(x, read('adapter_down'), out_dtype=wide)
    hidden = hidden + read('adapter_down_bias').astype(hidden.dtype)
    hidden = ACTIVATIONS['gelu_new'](hidden).astype(x.dtype)
    out = products.over_last(hidden, read('adapter_up'))
    return out + read('adapter_up_bias').astype(out.dtype)


def weight(
  module: nn.Module,
  name: str,
  shape: Sequence[int],
  *,
  axes: tuple[str, ...],
  stddev: float,
) -> jax.Array:
  """A parameter that begins as normal noise and names its axes."""
  init = nn.with_logical_partitioning(nn.initializers.normal(stddev), axes)
  return module.param(name, init, tuple(shape), jnp.float32)


class RMSNorm(nn.Module):
  """Scale by the root mean square, in float32; no mean, no bias."""

  epsilon: float

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    ones = nn.with_logical_partitioning(nn.initializers.ones, ('embed',))
    scale_D = self.param('scale', ones, (x.shape[-1],), jnp.float32)
    y = x.astype(products.wide(x.dtype))
    mean_square = jnp.mean(y * y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(mean_square + self.epsilon)
    return (y * scale_D.astype(y.dtype)).astype(x.dtype)


class LayerNorm(nn.Module):
  """To mean 0 and variance 1, in float32; then scale and bias.

  Its port stands in `ports`.
  """

  epsilon: float

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    named = functools.partial(nn.with_logical_partitioning, names=('embed',))
    shape, kind = (x.shape[-1],), jnp.float32
    scale_D = self.param('scale', named(nn.initializers.ones), shape, kind)
    bias_D = self.param('bias', named(nn.initializers.zeros), shape, kind)
    y = x.astype(products.wide(x.dtype))
    y = y - jnp.mean(y, axis=-1, keepdims=True)
    y = y * jax.lax.rsqrt(
      jnp.mean(y * y, axis=-1, keepdims=True) + self.epsilon
    )
    delta_D = ports.read(self, 'delta_bias')
    if delta_D is not None:
      bias_D = bias_D + delta_D
    y = y * scale_D.astype(y.dtype) + bias_D.astype(y.dtype)
    return y.astype(x.dtype)


class Embedder(nn.Module):
  """Rows for ids; ids from vocab_size on read the port `prompt`.

  Its ports stand in `ports`.
  """

  vocab_size: int
  features: int
  dtype: jnp.dtype
  stddev: float = 1.0

  def setup(self) -> None:
    self.embedding = weight(
      self,
      'embedding',
      (self.vocab_size, self.features),
      axes=('vocab', 'embed'),
      stddev=self.stddev,
    )

  def __call__(self, ids_BxL: jax.Array, *, given: bool = True) -> jax.Array:
    """[B, L, D]; `given` ids are what is read, not what a decoder said."""
    prompt = ports.read(self, 'prompt')
    if prompt is None:
      return self._real(ids_BxL, given)
    virtual_BxLx1 = (ids_BxL >= self.vocab_size)[..., None]
    real_BxL = jnp.where(virtual_BxLx1[..., 0], 0, ids_BxL)
    real_BxLxD = self._real(real_BxL, given)
    row_BxL = jnp.maximum(ids_BxL - self.vocab_size, 0)
    prompt_BxLxD = _rows(prompt, row_BxL)
    return jnp.where(virtual_BxLx1, prompt_BxLxD.astype(self.dtype), real_BxLxD)

  def _real(self, ids_BxL: jax.Array, given: bool) -> jax.Array:
    x_BxLxD = self._look_up(ids_BxL)
    down = ports.read(self, 'input_down')
    if down is None or not given:
      return x_BxLxD
    wide = products.wide(self.dtype)
    hidden = products.linear(x_BxLxD, down, out_dtype=wide)
    hidden = ACTIVATIONS['gelu_new'](hidden).astype(self.dtype)
    return x_BxLxD + products.linear(hidden, ports.read(self, 'input_up'))

  def _look_up(self, ids_BxL: jax.Array) -> jax.Array:
    ids_BxL = constrain(ids_BxL, 'batch_at_vocab', None)
    x_BxLxD = products.rows(self.embedding, ids_BxL, self.dtype)
    x_BxLxD = constrain(x_BxLxD, 'batch_at_vocab', None, None)
    return constrain(x_BxLxD, 'batch', None, None)

  def logits(self, x: jax.Array) -> jax.Array:
    """The product with the transposed table, for a tied head; float32."""

    def head(x: jax.Array) -> jax.Array:
      return products.linear(
        x, self.embedding.T, out_dtype=products.wide(x.dtype)
      )

    return to_vocab(head, x)


def _rows(prompt: jax.Array, row_BxL: jax.Array) -> jax.Array:
  if prompt.ndim == 2:
    return jnp.take(prompt, row_BxL, axis=0, mode='fill')
  take = functools.partial(jnp.take, axis=0, mode='fill')
  return jax.vmap(take)(prompt, row_BxL)


def mask_bias(mask_BxS: jax.Array) -> jax.Array:
  """Float32 [B, 1, 1, S]: 0 where the mask is true, else out of reach."""
  return jnp.where(mask_BxS, 0.0, MASKED).astype(jnp.float32)[:, None, None, :]


def causal_bias(query_T: jax.Array, key_length: int) -> jax.Array:
  """Float32 [1, 1, T, S]: a query does not see keys behind its position."""
  seen_TxS = jnp.arange(key_length) <= query_T[:, None]
  return jnp.where(seen_TxS, 0.0, MASKED).astype(jnp.float32)[None, None]
