"""One layer of T5's encoder and one of its decoder, and what sizes them.

Owns the order of norms, attentions and mlp. Knows neither how many layers there
are nor how they are looped over.
"""

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax

from ptjax.models import layers, t5_attention


@dataclasses.dataclass(frozen=True)
class T5Config:
  """What tells one T5 from another."""

  vocab_size: int  # rows of the embedding, not pieces of the tokenizer
  d_model: int
  d_kv: int
  d_ff: int
  num_layers: int
  num_decoder_layers: int
  num_heads: int
  relative_attention_num_buckets: int = 32
  relative_attention_max_distance: int = 128
  layer_norm_epsilon: float = 1e-6
  dropout_rate: float = 0.0  # only where deterministic=False
  activation: str = 'gelu_new'
  gated: bool = True
  tied: bool = False  # the head is the embedding
  scale_logits: bool = False  # by d_model ** -0.5, as T5 1.0 does
  pad_id: int = 0
  eos_id: int = 1
  decoder_start_id: int = 0


class EncoderLayer(nn.Module):
  """Self-attention, then the mlp, each behind a norm."""

  config: T5Config

  def setup(self) -> None:
    config = self.config
    self.pre_attention_norm = layers.RMSNorm(config.layer_norm_epsilon)
    self.attention = _attention(config)
    self.pre_mlp_norm = layers.RMSNorm(config.layer_norm_epsilon)
    self.mlp = Mlp(config)
    self.dropout = nn.Dropout(config.dropout_rate)

  def __call__(
    self,
    x_BxJxD: jax.Array,
    biases: tuple[jax.Array, ...],
    deterministic: bool,
  ) -> tuple[jax.Array, None]:
    x_BxJxD = layers.constrain(x_BxJxD, 'batch', None, None)
    normed = self.pre_attention_norm(x_BxJxD)
    key, value = self.attention.key_value(normed)
    y = self.attention(normed, key, value, biases, deterministic=deterministic)
    x_BxJxD = x_BxJxD + self.dropout(y, deterministic=deterministic)
    y = self.mlp(self.pre_mlp_norm(x_BxJxD), deterministic=deterministic)
    return x_BxJxD + self.dropout(y, deterministic=deterministic), None


class DecoderLayer(nn.Module):
  """Self-attention, attention to the input, mlp, each behind a norm."""

  config: T5Config
  absorb: bool = True  # where attention to the input can, see `Attention`

  def setup(self) -> None:
    config = self.config
    self.pre_self_attention_norm = layers.RMSNorm(config.layer_norm_epsilon)
    self.self_attention = _attention(config)
    self.pre_cross_attention_norm = layers.RMSNorm(config.layer_norm_epsilon)
    self.cross_attention = _attention(config)
    self.pre_mlp_norm = layers.RMSNorm(config.layer_norm_epsilon)
    self.mlp = Mlp(config)
    self.dropout = nn.Dropout(config.dropout_rate)

  def __call__(
    self,
    x_BxTxD: jax.Array,
    encoded_BxJxD: jax.Array,
    self_biases: tuple[jax.Array, ...],
    mask_Bx1x1xS: jax.Array,
    deterministic: bool,
  ) -> tuple[jax.Array, None]:
    x_BxTxD = layers.constrain(x_BxTxD, 'batch', None, None)
    normed = self.pre_self_attention_norm(x_BxTxD)
    own = self.self_attention.key_value(normed)
    y = self.self_attention(
      normed, *own, self_biases, deterministic=deterministic
    )
    x_BxTxD = x_BxTxD + self.dropout(y, deterministic=deterministic)
    absorbed = self.absorb and self.cross_attention.absorbs(
      x_BxTxD.shape[1], encoded_BxJxD.shape[1]
    )
    x_BxTxD = self._after_self_attention(
      x_BxTxD,
      (encoded_BxJxD,)
      if absorbed
      else self.cross_attention.key_value(encoded_BxJxD),
      mask_Bx1x1xS,
      deterministic=deterministic,
    )
    return x_BxTxD, None

  def cross_key_value(
    self, carry: None, encoded_BxJxD: jax.Array
  ) -> tuple[None, tuple[jax.Array, jax.Array]]:
    return carry, self.cross_attention.key_value(encoded_BxJxD)

  def step(
    self,
    x_Bx1xD: jax.Array,
    past: tuple[jax.Array, ...],
    index: jax.Array,
    self_biases: tuple[jax.Array, ...],
    mask_Bx1x1xS: jax.Array,
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    old_key, old_value, *cross = past
    x_Bx1xD = layers.constrain(x_Bx1xD, 'batch', None, None)
    normed = self.pre_self_attention_norm(x_Bx1xD)
    key, value = self.self_attention.key_value(normed)
    write = jax.lax.dynamic_update_slice_in_dim
    y = self.self_attention(
      normed,
      write(old_key, key, index, axis=3),
      write(old_value, value, index, axis=2),
      self_biases,
      deterministic=True,
    )
    x_Bx1xD = self._after_self_attention(
      x_Bx1xD + y, cross, mask_Bx1x1xS, deterministic=True
    )
    return x_Bx1xD, (key, value)

  def _after_self_attention(
    self,
    x_BxTxD: jax.Array,
    cross: Sequence[jax.Array],
    mask_Bx1x1xS: jax.Array,
    *,
    deterministic: bool,
  ) -> jax.Array:
    """`cross` are keys and values of the input, or what they are made of."""
    attention = self.cross_attention
    y = (attention if len(cross) == 2 else attention.absorbed)(
      self.pre_cross_attention_norm(x_BxTxD),
      *cross,
      (mask_Bx1x1xS,),
      deterministic=deterministic,
    )
    x_BxTxD = x_BxTxD + self.dropout(y, deterministic=deterministic)
    y = self.mlp(self.pre_mlp_norm(x_BxTxD), deterministic=deterministic)
    return x_BxTxD + self.dropout(y, deterministic=deterministic)


class Mlp(nn.Module):
  """One hidden layer, with or without a gate."""

  config: T5Config

  @nn.compact
  def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
    config = self.config
    activation = layers.ACTIVATIONS[config.activation]
    axes, stddev = ('embed', 'mlp'), config.d_model**-0.5
    if config.gated:
      gate = layers.Linear(config.d_ff, axes, stddev, name='wi_0')(x)
      y = layers.Linear(config.d_ff, axes, stddev, name='wi_1')(x)
      y = activation(gate) * y
    else:
      y = activation(layers.Linear(config.d_ff, axes, stddev, name='wi')(x))
    y = nn.Dropout(config.dropout_rate)(y, deterministic=deterministic)
    out = layers.Linear(
      config.d_model, ('mlp', 'embed'), config.d_ff**-0.5, name='wo'
    )
    return out(y)


def _attention(config: T5Config) -> t5_attention.Attention:
  return t5_attention.Attention(
    config.d_model, config.num_heads, config.d_kv, config.dropout_rate
  )
