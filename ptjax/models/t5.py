"""T5: 1.0, 1.1, LM-adapted, Flan and mT5 by their configuration.

Owns the architecture as pure functions of (params, ports, arrays), teacher
forced or step by step with its own cache. Knows ports, not the methods that
fill them; no tokenizer and no file.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ptjax.models import layers, stack, t5_attention
from ptjax.models.t5_layers import DecoderLayer, EncoderLayer, T5Config

__all__ = ['CACHE_BATCH_AXES', 'Cache', 'T5', 'T5Config']

Cache = dict[str, jax.Array]

# The batch axis of each leaf of a cache; None where it has no batch.
CACHE_BATCH_AXES: dict[str, int | None] = {
  'self_key': 1,
  'self_value': 1,
  'cross_key': 1,
  'cross_value': 1,
  'input_mask': 0,
  'index': None,
}


class T5(nn.Module):
  """The whole model; every method is for `model.apply(..., method=)`.

  A mask of S = P + J positions begins with those of a prefix, P, which stands
  in front of the keys of each attention that has its ports.
  """

  config: T5Config
  dtype: Any = jnp.float32  # of the computation, not of the parameters
  scan: bool = True  # one compiled layer, or all layers unrolled
  remat: str = 'products'  # what the backward pass keeps, see models.stack
  absorb: bool = True  # no keys and values of the input for few positions

  def setup(self) -> None:
    config = self.config
    self.token_embedder = layers.Embedder(
      config.vocab_size, config.d_model, self.dtype
    )
    how = {'scan': self.scan, 'remat': self.remat, 'dtype': self.dtype}
    self.encoder = Encoder(config, **how)
    self.decoder = Decoder(config, **how, absorb=self.absorb)
    if not config.tied:
      self.head = layers.Linear(
        config.vocab_size, ('embed', 'vocab'), config.d_model**-0.5
      )

  def __call__(
    self,
    inputs_BxJ: jax.Array,
    input_mask_BxS: jax.Array,
    decoder_ids_BxT: jax.Array,
    *,
    deterministic: bool = True,
  ) -> jax.Array:
    """Logits [B, T, V] in float32, teacher forced."""
    return self.logits(
      self.states(
        inputs_BxJ,
        input_mask_BxS,
        decoder_ids_BxT,
        deterministic=deterministic,
      )
    )

  def states(
    self,
    inputs_BxJ: jax.Array,
    input_mask_BxS: jax.Array,
    decoder_ids_BxT: jax.Array,
    *,
    deterministic: bool = True,
  ) -> jax.Array:
    """What `logits` reads, [B, T, D]: a few positions at a time, or all."""
    encoded_BxJxD = self.encode(
      inputs_BxJ, input_mask_BxS, deterministic=deterministic
    )
    return self._decoded(
      decoder_ids_BxT,
      encoded_BxJxD,
      input_mask_BxS,
      deterministic=deterministic,
    )

  def encode(
    self,
    inputs_BxJ: jax.Array,
    input_mask_BxS: jax.Array,
    *,
    deterministic: bool = True,
  ) -> jax.Array:
    """The encoder's output [B, J, D]; ids from V on are virtual tokens."""
    x_BxJxD = self.token_embedder(inputs_BxJ)
    mask_Bx1x1xS = layers.mask_bias(input_mask_BxS)
    return self.encoder(x_BxJxD, mask_Bx1x1xS, deterministic=deterministic)

  def decode(
    self,
    decoder_ids_BxT: jax.Array,
    encoded_BxJxD: jax.Array,
    input_mask_BxS: jax.Array,
    *,
    deterministic: bool = True,
  ) -> jax.Array:
    """Logits [B, T, V] in float32 of ids already shifted to the right."""
    return self.logits(
      self._decoded(
        decoder_ids_BxT,
        encoded_BxJxD,
        input_mask_BxS,
        deterministic=deterministic,
      )
    )

  def init_cache(
    self,
    encoded_BxJxD: jax.Array,
    input_mask_BxS: jax.Array,
    *,
    max_length: int,
  ) -> Cache:
    """An empty cache of max_length steps; the input's part is computed."""
    config = self.config
    cross_key, cross_value = self.decoder.cross_key_value(encoded_BxJxD)
    batch = encoded_BxJxD.shape[0]
    heads = (config.num_decoder_layers, batch, config.num_heads)
    return {
      'self_key': jnp.zeros((*heads, config.d_kv, max_length), self.dtype),
      'self_value': jnp.zeros((*heads, max_length, config.d_kv), self.dtype),
      'cross_key': cross_key,
      'cross_value': cross_value,
      'input_mask': input_mask_BxS,
      'index': jnp.zeros((), jnp.int32),
    }

  def decode_step(
    self, ids_B: jax.Array, cache: Cache
  ) -> tuple[jax.Array, Cache]:
    """Logits [B, V] after one more id each, and the cache behind it."""
    x_Bx1xD = self.token_embedder(ids_B[:, None], given=False)
    x_Bx1xD, key, value = self.decoder.step(
      x_Bx1xD, cache, layers.mask_bias(cache['input_mask'])
    )
    # All layers' new rows are written at once, which XLA does in place.
    index, write = cache['index'], jax.lax.dynamic_update_slice_in_dim
    cache = cache | {
      'self_key': write(cache['self_key'], key, index, axis=4),
      'self_value': write(cache['self_value'], value, index, axis=3),
      'index': index + 1,
    }
    return self.logits(x_Bx1xD)[:, 0], cache

  def logits(self, x_BxTxD: jax.Array) -> jax.Array:
    """Logits [B, T, V] in float32 of the decoder's output [B, T, D]."""
    if self.config.scale_logits:
      x_BxTxD = x_BxTxD * self.config.d_model**-0.5
    if self.config.tied:
      return self.token_embedder.logits(x_BxTxD)
    head = functools.partial(self.head, out_dtype=jnp.float32)
    return layers.to_vocab(head, x_BxTxD)

  def _decoded(
    self, decoder_ids_BxT, encoded_BxJxD, input_mask_BxS, *, deterministic
  ) -> jax.Array:
    return self.decoder(
      self.token_embedder(decoder_ids_BxT, given=False),
      encoded_BxJxD,
      layers.mask_bias(input_mask_BxS),
      deterministic=deterministic,
    )


class Encoder(nn.Module):
  """Layers over the whole input, both directions."""

  config: T5Config
  scan: bool
  remat: str
  dtype: Any

  def setup(self) -> None:
    config = self.config
    self.relative_bias = _relative_bias(config, bidirectional=True)
    self.layers = stack.stack(
      EncoderLayer,
      config,
      length=config.num_layers,
      scan=self.scan,
      remat=self.remat,
      dtype=self.dtype,
      init=self.is_initializing(),
      inputs={'__call__': (nn.broadcast, nn.broadcast)},
    )
    self.norm = layers.RMSNorm(config.layer_norm_epsilon)
    self.dropout = nn.Dropout(config.dropout_rate)

  def __call__(
    self, x_BxJxD: jax.Array, mask_Bx1x1xS: jax.Array, *, deterministic: bool
  ) -> jax.Array:
    length = x_BxJxD.shape[1]
    bias_1xHxJxJ = self.relative_bias(jnp.arange(length), length)
    # A prefix has no distance from what is read in both directions.
    front = mask_Bx1x1xS.shape[-1] - length
    bias_1xHxJxS = jnp.pad(bias_1xHxJxJ, [(0, 0)] * 3 + [(front, 0)])
    x_BxJxD = self.dropout(x_BxJxD, deterministic=deterministic)
    biases = (bias_1xHxJxS, mask_Bx1x1xS)
    x_BxJxD, _ = self.layers(x_BxJxD, biases, deterministic)
    x_BxJxD = self.norm(x_BxJxD)
    return self.dropout(x_BxJxD, deterministic=deterministic)


class Decoder(nn.Module):
  """Causal layers that also attend to the encoder's output."""

  config: T5Config
  scan: bool
  remat: str
  dtype: Any
  absorb: bool

  def setup(self) -> None:
    config = self.config
    self.relative_bias = _relative_bias(config, bidirectional=False)
    self.layers = stack.stack(
      DecoderLayer,
      config,
      length=config.num_decoder_layers,
      scan=self.scan,
      remat=self.remat,
      dtype=self.dtype,
      init=self.is_initializing(),
      inputs={
        '__call__': (nn.broadcast,) * 4,
        'cross_key_value': (nn.broadcast,),
        'step': (0, nn.broadcast, nn.broadcast, nn.broadcast),
      },
      fields={'absorb': self.absorb},
    )
    self.norm = layers.RMSNorm(config.layer_norm_epsilon)
    self.dropout = nn.Dropout(config.dropout_rate)

  def __call__(
    self,
    x_BxTxD: jax.Array,
    encoded_BxJxD: jax.Array,
    mask_Bx1x1xS: jax.Array,
    *,
    deterministic: bool,
  ) -> jax.Array:
    length = x_BxTxD.shape[1]
    front = mask_Bx1x1xS.shape[-1] - encoded_BxJxD.shape[1]
    biases = self._self_biases(
      jnp.arange(length), length, mask_Bx1x1xS[..., :front]
    )
    x_BxTxD = self.dropout(x_BxTxD, deterministic=deterministic)
    x_BxTxD, _ = self.layers(
      x_BxTxD, encoded_BxJxD, biases, mask_Bx1x1xS, deterministic
    )
    x_BxTxD = self.norm(x_BxTxD)
    return self.dropout(x_BxTxD, deterministic=deterministic)

  def cross_key_value(
    self, encoded_BxJxD: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Keys [N, B, H, K, J] and values [N, B, H, J, K] of the input."""
    _, key_value = self.layers.cross_key_value(None, encoded_BxJxD)
    return key_value

  def step(
    self, x_Bx1xD: jax.Array, cache: Cache, mask_Bx1x1xS: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One position further: output, and all layers' new keys and values."""
    index, length = cache['index'], cache['self_key'].shape[-1]
    front = mask_Bx1x1xS.shape[-1] - cache['cross_key'].shape[-1]
    biases = self._self_biases(index[None], length, mask_Bx1x1xS[..., :front])
    past = tuple(
      cache[name]
      for name in ('self_key', 'self_value', 'cross_key', 'cross_value')
    )
    x_Bx1xD, (key, value) = self.layers.step(
      x_Bx1xD, past, index, biases, mask_Bx1x1xS
    )
    return self.norm(x_Bx1xD), key, value

  def _self_biases(
    self, query_T: jax.Array, length: int, front_Bx1x1xP: jax.Array
  ) -> tuple[jax.Array, ...]:
    """Of `length` keys behind a prefix, which has the first positions."""
    front = front_Bx1x1xP.shape[-1]
    query_T, end = query_T + front, front + length
    causal = layers.causal_bias(query_T, end)
    biases = self.relative_bias(query_T, end), causal
    if not front:
      return biases
    return *biases, jnp.pad(front_Bx1x1xP, [(0, 0)] * 3 + [(0, length)])


def _relative_bias(
  config: T5Config, *, bidirectional: bool
) -> t5_attention.RelativeBias:
  return t5_attention.RelativeBias(
    config.num_heads,
    config.relative_attention_num_buckets,
    config.relative_attention_max_distance,
    bidirectional,
    config.d_model**-0.5,
  )
