"""T5's attention: unscaled, biased by distance, to itself or to an input.

Owns keys and values, and how few queries do without them. Knows no layer, no
mask and no cache.
"""

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ptjax.models import layers, ports, products, softmax, stack


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
    table = layers.weight(
      self, 'embedding', shape, axes=axes, stddev=self.stddev
    )
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
    self.query = layers.Linear(width, axes, inner * self.head_size**-0.5)
    self.key = layers.Linear(width, axes, inner)
    self.value = layers.Linear(width, axes, inner)
    self.out = layers.Linear(self.features, ('joined_kv', 'embed'), width**-0.5)
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
    product = self._product(x_BxTxD.dtype)
    scores_BxHxTxS = product(query_BxHxTxK, key_BxHxKxS)
    weights_BxHxTxS = self._weights(
      scores_BxHxTxS, biases, x_BxTxD.dtype, deterministic=deterministic
    )
    mixed_BxHxTxK = product(weights_BxHxTxS, value_BxHxSxK)
    return self._joined(mixed_BxHxTxK.astype(x_BxTxD.dtype))

  def absorbs(self, queries: int, keys: int) -> bool:
    """Whether `absorbed` is possible, and takes less of all.

    Of operations about queries / K, of which half is asked for, as products of
    few rows are slower; what the backward pass keeps is as wide as what is read
    for each query and head.
    """
    few = 2 * queries <= self.head_size
    small = queries * self.features <= keys * self.head_size
    prefix = any(ports.read(self, name) is not None for name in ports.PREFIX)
    kernels = self.key.alone(), self.value.alone()
    return (
      few
      and small
      and not prefix
      and all(kernel is not None for kernel in kernels)
    )

  def absorbed(
    self,
    x_BxTxD: jax.Array,
    read_BxSxD: jax.Array,
    biases: Sequence[jax.Array],
    *,
    deterministic: bool,
  ) -> jax.Array:
    """Attention to what is read, whose keys and values are never made.

    A score q · (W x) is (Wᵀ q) · x: the kernels of keys and values meet the
    queries and what they mixed, which are few, not all that is read. As
    multi-head latent attention decodes (DeepSeek-V2, section 2.1.2).
    """
    dtype, product = x_BxTxD.dtype, self._product(x_BxTxD.dtype)
    B, T, _ = x_BxTxD.shape
    query_BxHxTxK = self._heads(self.query(x_BxTxD)).swapaxes(1, 2)
    key_DxHxK = self._heads(self.key.alone())
    query_BxHxTxD = self._each_head(query_BxHxTxK, key_DxHxK.transpose(1, 2, 0))
    shape = (B, self.num_heads, T, -1)
    scores_BxHTxS = product(
      query_BxHxTxD.reshape(B, -1, query_BxHxTxD.shape[-1]), read_BxSxD.mT
    )
    weights_BxHxTxS = self._weights(
      scores_BxHTxS.reshape(shape), biases, dtype, deterministic=deterministic
    )
    mixed_BxHTxD = product(
      weights_BxHxTxS.reshape(B, self.num_heads * T, -1), read_BxSxD
    )
    mixed_BxHxTxD = stack.keep(mixed_BxHTxD.astype(dtype)).reshape(shape)
    value_DxHxK = self._heads(self.value.alone())
    return self._joined(
      self._each_head(mixed_BxHxTxD, value_DxHxK.swapaxes(0, 1))
    )

  def _each_head(self, x_BxHxTxI: jax.Array, w_HxIxO: jax.Array) -> jax.Array:
    """[B, H, T, O], each head times its own part of a kernel."""
    B, H, T, _ = x_BxHxTxI.shape
    x_HxBTxI = x_BxHxTxI.swapaxes(0, 1).reshape(H, B * T, -1)
    y_HxBTxO = self._product(x_BxHxTxI.dtype)(x_HxBTxI, w_HxIxO)
    y_HxBTxO = stack.keep(y_HxBTxO.astype(x_BxHxTxI.dtype))
    return y_HxBTxO.reshape(H, B, T, -1).swapaxes(0, 1)

  def _product(self, dtype: jnp.dtype) -> Callable[..., jax.Array]:
    return functools.partial(products.product, narrow=self.out.narrow(dtype))

  def _weights(
    self,
    scores_BxHxTxS: jax.Array,
    biases: Sequence[jax.Array],
    dtype: jnp.dtype,
    *,
    deterministic: bool,
  ) -> jax.Array:
    for bias in biases:
      # Some reach over a prefix too, which not every attention has.
      scores_BxHxTxS += bias[..., -scores_BxHxTxS.shape[-1] :]
    (weights_BxHxTxS,) = softmax.over([scores_BxHxTxS], dtype)
    return self.dropout(weights_BxHxTxS, deterministic=deterministic)

  def _joined(self, mixed_BxHxTxK: jax.Array) -> jax.Array:
    mixed_BxTxHxK = mixed_BxHxTxK.swapaxes(1, 2)
    return self.out(mixed_BxTxHxK.reshape(*mixed_BxTxHxK.shape[:2], -1))

  def _behind(self, port: str, own: jax.Array, *, axis: int) -> jax.Array:
    """Keys or values behind those of a prefix, which all rows share."""
    prefix = ports.read(self, port)
    if prefix is None:
      return own
    front = jnp.broadcast_to(prefix, (own.shape[0], *prefix.shape))
    return jnp.concatenate([front.astype(own.dtype), own], axis=axis)

  def _heads(self, x: jax.Array) -> jax.Array:
    return x.reshape(*x.shape[:-1], self.num_heads, self.head_size)
