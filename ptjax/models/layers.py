"""The pieces of which models are made.

Owns embedding with virtual tokens, linear maps, norms and attention. Knows no
architecture, no method and no file.
"""

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ptjax.models import int8, ports, products, softmax, stack

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


class RelativeBias(nn.Module):
  """T5's bias of a score by the distance from query to key, in buckets."""

  num_heads: int
  num_buckets: int
  max_distance: int
  bidirectional: bool
  stddev: float

  @nn.compact
  def __call__(self, query_T: jax.Array, key_length: int) -> jax.Array:
    """Bias [1, H, T, S] of queries at positions query_T < key_length = S."""
    shape = (self.num_buckets, self.num_heads)
    axes = ('relpos_buckets', 'heads')
    table = weight(self, 'embedding', shape, axes=axes, stddev=self.stddev)
    # Buckets are looked up, not computed on the device: a logarithm that is
    # off by one bit would move a distance into another bucket.
    bucket = relative_buckets(
      np.arange(1 - key_length, key_length),
      num_buckets=self.num_buckets,
      max_distance=self.max_distance,
      bidirectional=self.bidirectional,
    )
    by_distance_xH = table.astype(jnp.float32)[bucket]
    distance_TxS = jnp.arange(key_length) - query_T[:, None]
    bias_TxSxH = by_distance_xH[distance_TxS + (key_length - 1)]
    return bias_TxSxH.transpose(2, 0, 1)[None]


def relative_buckets(
  distance: np.ndarray,
  *,
  num_buckets: int,
  max_distance: int,
  bidirectional: bool,
) -> np.ndarray:
  """T5's bucket of each distance (key position minus query position)."""
  offset = np.zeros_like(distance)
  if bidirectional:
    num_buckets //= 2
    offset = np.where(distance > 0, num_buckets, 0)
    distance = np.abs(distance)
  else:
    distance = np.maximum(-distance, 0)
  exact = num_buckets // 2
  near = np.maximum(distance, 1).astype(np.float32) / np.float32(exact)
  steps = np.log(near) / np.float32(math.log(max_distance / exact))
  far = exact + (steps * np.float32(num_buckets - exact)).astype(np.int32)
  far = np.minimum(far, num_buckets - 1)
  return (offset + np.where(distance < exact, distance, far)).astype(np.int32)


class Attention(nn.Module):
  """Unscaled attention, as T5's; keys and values may be from a cache."""

  features: int
  num_heads: int
  head_size: int
  dropout_rate: float

  def setup(self) -> None:
    width = self.num_heads * self.head_size
    inner = self.features**-0.5
    axes = ('embed', 'joined_kv')
    self.query = Linear(width, axes, inner * self.head_size**-0.5)
    self.key = Linear(width, axes, inner)
    self.value = Linear(width, axes, inner)
    self.out = Linear(self.features, ('joined_kv', 'embed'), width**-0.5)
    self.dropout = nn.Dropout(self.dropout_rate)

  def key_value(self, x_BxSxD: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys [B, H, K, S] and values [B, H, S, K] of what is attended to.

    In these layouts both products are plain matrix products of each head,
    which a CPU does several times faster than einsum over [B, S, H, K].
    """
    key_BxSxHxK = self._heads(self.key(x_BxSxD))
    value_BxSxHxK = self._heads(self.value(x_BxSxD))
    return key_BxSxHxK.transpose(0, 2, 3, 1), value_BxSxHxK.swapaxes(1, 2)

  def __call__(
    self,
    x_BxTxD: jax.Array,
    key_BxHxKxS: jax.Array,
    value_BxHxSxK: jax.Array,
    biases: Sequence[jax.Array],
    *,
    deterministic: bool,
  ) -> jax.Array:
    """Each bias is added to the scores [B, H, T, S] by broadcasting.

    Its ports stand in `ports`.
    """
    query_BxHxTxK = self._heads(self.query(x_BxTxD)).swapaxes(1, 2)
    key_BxHxKxS = self._behind('prefix_key', key_BxHxKxS, axis=3)
    value_BxHxSxK = self._behind('prefix_value', value_BxHxSxK, axis=2)
    product = functools.partial(
      products.product, narrow=self.out.narrow(x_BxTxD.dtype)
    )
    scores_BxHxTxS = product(query_BxHxTxK, key_BxHxKxS)
    for bias in biases:
      # Some reach over a prefix too, which not every attention has.
      scores_BxHxTxS += bias[..., -scores_BxHxTxS.shape[-1] :]
    (weights_BxHxTxS,) = softmax.over([scores_BxHxTxS], x_BxTxD.dtype)
    weights_BxHxTxS = self.dropout(weights_BxHxTxS, deterministic=deterministic)
    mixed_BxHxTxK = product(weights_BxHxTxS, value_BxHxSxK)
    mixed_BxHxTxK = mixed_BxHxTxK.astype(x_BxTxD.dtype)
    mixed_BxTxHxK = mixed_BxHxTxK.swapaxes(1, 2)
    return self.out(mixed_BxTxHxK.reshape(*x_BxTxD.shape[:2], -1))

  def _behind(self, port: str, own: jax.Array, *, axis: int) -> jax.Array:
    """Keys or values behind those of a prefix, which all rows share."""
    prefix = ports.read(self, port)
    if prefix is None:
      return own
    front = jnp.broadcast_to(prefix, (own.shape[0], *prefix.shape))
    return jnp.concatenate([front.astype(own.dtype), own], axis=axis)

  def _heads(self, x: jax.Array) -> jax.Array:
    return x.reshape(*x.shape[:-1], self.num_heads, self.head_size)


def mask_bias(mask_BxS: jax.Array) -> jax.Array:
  """Float32 [B, 1, 1, S]: 0 where the mask is true, else out of reach."""
  return jnp.where(mask_BxS, 0.0, MASKED).astype(jnp.float32)[:, None, None, :]


def causal_bias(query_T: jax.Array, key_length: int) -> jax.Array:
  """Float32 [1, 1, T, S]: a query does not see keys behind its position."""
  seen_TxS = jnp.arange(key_length) <= query_T[:, None]
  return jnp.where(seen_TxS, 0.0, MASKED).astype(jnp.float32)[None, None]
