"""One layer of a decoder-only model: attention over blocks, then an mlp.

Owns what GPT-2, GPT-NeoX and Llama have in common within a layer: one softmax
over several blocks of keys, rotary positions, parallel or sequential residual.
Knows neither how many layers there are nor what a block holds.

Keys and values have their heads in front, [H, B, K, S] and [H, B, S, K], where
H counts key heads: a block without a batch is then one matrix product a head
for the queries of all rows.
"""

import dataclasses
import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ptjax.models import layers, products, softmax

# Keys [H, B | 1, K, S] and values [H, B | 1, S, K]; 1 is read by every row.
Block = tuple[jax.Array, jax.Array]
# Cosine and sine [B, T, R / 2] of the R rotated features.
Rotation = tuple[jax.Array, jax.Array]

_AXES = {
  # GPT-2 has its queries before its keys, GPT-NeoX mixes them by head.
  'part': ('qkv', 'heads', 'kv'),
  'head': ('heads', 'qkv', 'kv'),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalConfig:
  """What every decoder-only model says of itself."""

  vocab_size: int  # rows of the embedding, not pieces of the tokenizer
  d_model: int
  d_ff: int
  num_layers: int
  num_heads: int
  head_size: int
  max_positions: int
  norm_epsilon: float = 1e-5
  dropout_rate: float = 0.0  # only where deterministic=False
  activation: str = 'gelu'
  tied: bool = False  # the head is the embedding
  parallel_residual: bool = False  # attention and mlp read the same x
  stddev: float = 0.02  # of a new network's weights
  eos_id: int = 0
  ends: tuple[int, ...] = ()  # all ids that may end a text, eos_id with them
  pad_id: int = 0  # most have none: then it is eos_id


class Attention(nn.Module):
  """Attention of queries to blocks of keys, all in one softmax.

  Attributes:
    fused: how queries, keys and values lie in one kernel: '' (three kernels),
      'part' or 'head', by what comes first.
  """

  config: CausalConfig
  num_kv_heads: int
  fused: str = ''
  bias: bool = True
  out_bias: bool = True

  def setup(self) -> None:
    config, kv_heads = self.config, self.num_kv_heads
    heads, head_size = config.num_heads, config.head_size
    if self.fused:
      axes = _AXES[self.fused]
      sizes = {'qkv': 3, 'heads': heads, 'kv': head_size}
      self.query_key_value = self._linear(tuple(sizes[a] for a in axes), axes)
    else:
      axes = ('heads', 'kv')
      self.query = self._linear((heads, head_size), axes)
      self.key = self._linear((kv_heads, head_size), axes)
      self.value = self._linear((kv_heads, head_size), axes)
    self.out = layers.Linear(
      config.d_model,
      ('joined_kv', 'embed'),
      config.stddev * (2 * config.num_layers) ** -0.5,
      self.out_bias,
    )
    self.dropout = nn.Dropout(config.dropout_rate)

  def _linear(self, features: tuple, axes: tuple) -> layers.Linear:
    axes = ('embed', *axes)
    return layers.Linear(features, axes, self.config.stddev, self.bias)

  def project(
    self, x_BxTxD: jax.Array, rotation: Rotation | None
  ) -> tuple[jax.Array, Block]:
    """Queries [H, B, GT, K], scaled, and the own block of keys and values."""
    if self.fused:
      fused = self.query_key_value(x_BxTxD)
      axis = 2 + _AXES[self.fused].index('qkv')
      query, key, value = jnp.moveaxis(fused, axis, 0)
    else:
      query = self.query(x_BxTxD)
      key, value = self.key(x_BxTxD), self.value(x_BxTxD)
    if rotation is not None:
      query, key = rotate(query, rotation), rotate(key, rotation)
    block = key.transpose(2, 0, 3, 1), value.transpose(2, 0, 1, 3)
    B, T, H, K = key.shape
    query = query * jnp.asarray(K**-0.5, query.dtype)
    query_HxBxGxTxK = query.reshape(B, T, H, -1, K).transpose(2, 0, 3, 1, 4)
    return query_HxBxGxTxK.reshape(H, B, -1, K), block

  def __call__(
    self,
    query_HxBxGTxK: jax.Array,
    blocks: Sequence[Block],
    biases: Sequence[jax.Array],
    *,
    deterministic: bool,
  ) -> jax.Array:
    """[B, T, D]; each block's bias is [B | 1, 1, T | 1, S]."""
    dtype = query_HxBxGTxK.dtype
    groups = self.config.num_heads // self.num_kv_heads
    H, B, _, K = query_HxBxGTxK.shape
    product = functools.partial(products.product, narrow=self.out.narrow(dtype))
    scores = [
      product(query_HxBxGTxK, key).reshape(H, B, groups, -1, key.shape[-1])
      + bias
      for (key, _), bias in zip(blocks, biases)
    ]
    mixed = 0
    for weights, (_, value) in zip(softmax.over(scores, dtype), blocks):
      weights_HxBxGxTxS = self.dropout(weights, deterministic=deterministic)
      weights_HxBxGTxS = weights_HxBxGxTxS.reshape(H, B, -1, value.shape[2])
      mixed = mixed + product(weights_HxBxGTxS, value)
    mixed_HxBxGxTxK = mixed.astype(dtype).reshape(H, B, groups, -1, K)
    mixed_BxTxHxGxK = mixed_HxBxGxTxK.transpose(1, 3, 0, 2, 4)
    return self.out(mixed_BxTxHxGxK.reshape(B, mixed_BxTxHxGxK.shape[1], -1))


def frequencies(size: int, base: float) -> np.ndarray:
  """Radians a position of each of size / 2 pairs (RoFormer, section 3.2)."""
  return base ** -(np.arange(0, size, 2, dtype=np.float64) / size)


def rotation(
  positions_BxT: jax.Array, frequency_R: np.ndarray, dtype: jnp.dtype
) -> Rotation:
  """What `rotate` needs, computed once for all layers."""
  dtype = products.wide(dtype)
  angle = positions_BxT[..., None].astype(dtype) * frequency_R.astype(dtype)
  return jnp.cos(angle), jnp.sin(angle)


def rotate(x_BxTxHxK: jax.Array, rotation: Rotation) -> jax.Array:
  """Turns pairs (i, i + R / 2) of the first R features by their angles."""
  cos, sin = (part[..., None, :] for part in rotation)
  half = cos.shape[-1]
  y = x_BxTxHxK.astype(cos.dtype)
  one, two, rest = y[..., :half], y[..., half : 2 * half], y[..., 2 * half :]
  turned = one * cos - two * sin, two * cos + one * sin, rest
  return jnp.concatenate(turned, axis=-1).astype(x_BxTxHxK.dtype)


class Mlp(nn.Module):
  """One hidden layer, with or without a gate."""

  config: CausalConfig
  gated: bool = False
  bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    config = self.config
    activation = layers.ACTIVATIONS[config.activation]

    def wide(name: str) -> jax.Array:
      axes, stddev = ('embed', 'mlp'), config.stddev
      linear = layers.Linear(config.d_ff, axes, stddev, self.bias, name=name)
      return linear(x)

    if self.gated:
      y = activation(wide('wi_0')) * wide('wi_1')
    else:
      y = activation(wide('wi'))
    stddev = config.stddev * (2 * config.num_layers) ** -0.5
    axes = ('mlp', 'embed')
    out = layers.Linear(config.d_model, axes, stddev, self.bias, name='wo')
    return out(y)


class CausalLayer(nn.Module):
  """Attention and mlp, each behind a norm; a family's `setup` says which.

  It gives pre_attention_norm, attention, pre_mlp_norm and mlp.
  """

  config: CausalConfig

  def setup(self) -> None:
    self.dropout = nn.Dropout(self.config.dropout_rate)

  def __call__(
    self,
    x_BxTxD: jax.Array,
    past: tuple[Block, ...],
    biases: tuple[jax.Array, ...],
    rotation: Rotation | None,
    deterministic: bool,
  ) -> tuple[jax.Array, None]:
    """`biases` are those of the past blocks and, last, of the own one."""
    x_BxTxD, _ = self._run(x_BxTxD, past, biases, rotation, deterministic)
    return x_BxTxD, None

  def with_block(
    self,
    x_BxTxD: jax.Array,
    past: tuple[Block, ...],
    biases: tuple[jax.Array, ...],
    rotation: Rotation | None,
    deterministic: bool,
  ) -> tuple[jax.Array, Block]:
    """The same, and the own keys (rotated) and values."""
    return self._run(x_BxTxD, past, biases, rotation, deterministic)

  def _run(self, x_BxTxD, past, biases, rotation, deterministic):
    dropout = functools.partial(self.dropout, deterministic=deterministic)
    x_BxTxD = layers.constrain(x_BxTxD, 'batch', None, None)
    query, block = self.attention.project(
      self.pre_attention_norm(x_BxTxD), rotation
    )
    y = self.attention(
      query, (*past, block), biases, deterministic=deterministic
    )
    after = x_BxTxD + dropout(y)
    read = x_BxTxD if self.config.parallel_residual else after
    return after + dropout(self.mlp(self.pre_mlp_norm(read))), block
