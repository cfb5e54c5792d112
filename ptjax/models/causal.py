"""Decoder-only models: ids -> logits, with what is in front computed once.

Owns positions, masks, the cache and the prefix of every family; a family gives
its layer, its norm and how positions enter. Knows ports, not the methods that
fill them; no tokenizer and no file.

A prefix is what `key_values` returns of a soft prompt (or of any tokens) run
alone. In a causal model it depends on nothing behind it, so every row may read
it, and a program computes it once:

  key     [N, H, M, K, P]  after rotary
  value   [N, H, M, P, K]
  mask    [M, P] or [B, P] which of its positions count, for each row
  last    [M, D]           behind the final norm, at its last position; no part
                           of a prefix that is no tokens, but keys and values

M is 1, one prefix for all rows, which is never copied, or B, one for each.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ptjax.config import UserError
from ptjax.models import layers, products, stack
from ptjax.models.causal_layers import CausalConfig, CausalLayer, Rotation

Cache = dict[str, jax.Array]
Prefix = dict[str, jax.Array]

# The batch axis of each leaf of a cache; None where it has no batch. The first
# three are there where a prefix is shared by all rows.
CACHE_BATCH_AXES: dict[str, int | None] = {
  'prefix_key': None,
  'prefix_value': None,
  'prefix_mask': 0,
  'key': 2,
  'value': 2,
  'mask': 0,
  'position': 0,
  'index': None,
}


def check_context(
  config: CausalConfig, *, prompt: int = 0, inputs: int, targets: int
) -> None:
  """Refuses lengths that the model has no positions for.

  Raises:
    UserError: with the number of positions needed and the model's.
  """
  needed = prompt + inputs + targets
  if needed > config.max_positions:
    raise UserError(
      f'a prompt of {prompt}, inputs of {inputs} and answers of {targets} '
      f'pieces need {needed} positions, but the model has '
      f'{config.max_positions}; shorten one of them'
    )


def leave_out(prefix: Prefix, prompted_B: jax.Array) -> Prefix:
  """The prefix for those rows only that are true in prompted_B."""
  return prefix | {'mask': prefix['mask'] & prompted_B[:, None]}


def of_rows(prefix: Prefix, member_B: jax.Array) -> Prefix:
  """The prefix of each row, of those along M that member_B names."""
  axes = {'key': 2, 'value': 2, 'mask': 0, 'last': 0}
  return {
    name: jnp.take(leaf, member_B, axis=axes[name])
    for name, leaf in prefix.items()
  }


class Causal(nn.Module):
  """The whole model; every method is for `model.apply(..., method=)`.

  Masks are true where a token is real. Positions count real tokens, behind
  those of the prefix: rows may be padded on either side. `prefix` is one, or
  several that follow each other.
  """

  config: CausalConfig
  dtype: Any = jnp.float32  # of the computation, not of the parameters
  scan: bool = True  # one compiled layer, or all layers unrolled
  remat: str = 'products'  # what the backward pass keeps, see models.stack

  def make_layer(self) -> type[CausalLayer]:
    """The family's layer."""
    raise TypeError(f'{type(self).__name__} is not a family of models')

  def make_norm(self) -> nn.Module:
    """The norm in front of the head."""
    return layers.LayerNorm(self.config.norm_epsilon)

  def embed(self, ids_BxT: jax.Array, positions_BxT: jax.Array) -> jax.Array:
    """What the first layer reads; ids from V on are virtual tokens."""
    return self.token_embedder(ids_BxT)

  def rotation(self, positions_BxT: jax.Array) -> Rotation | None:
    """What turns queries and keys; None where positions are embedded."""
    return None

  def setup(self) -> None:
    config = self.config
    self.token_embedder = layers.Embedder(
      config.vocab_size, config.d_model, self.dtype, config.stddev
    )
    inputs = (0, nn.broadcast, nn.broadcast, nn.broadcast)
    self.layers = stack.stack(
      self.make_layer(),
      config,
      length=config.num_layers,
      scan=self.scan,
      remat=self.remat,
      dtype=self.dtype,
      init=self.is_initializing(),
      inputs={'__call__': inputs, 'with_block': inputs},
      also=('with_block',),
    )
    self.norm = self.make_norm()
    self.dropout = nn.Dropout(config.dropout_rate)
    if not config.tied:
      self.unembedder = layers.Linear(
        config.vocab_size, ('embed', 'vocab'), config.stddev
      )

  def __call__(
    self,
    ids_BxL: jax.Array,
    mask_BxL: jax.Array,
    *,
    positions: jax.Array | None = None,
    prefix: Prefix | Sequence[Prefix] | None = None,
    deterministic: bool = True,
  ) -> jax.Array:
    """Logits [B, L, V] in float32 of each position's next token.

    Args:
      positions: [B, L], where they are not to be counted; those behind a
        prefix of P tokens begin with P.
    """
    x_BxLxD = self.hidden(
      ids_BxL,
      mask_BxL,
      positions=positions,
      prefix=prefix,
      deterministic=deterministic,
    )
    return self.head(x_BxLxD)

  def hidden(
    self,
    ids_BxL: jax.Array,
    mask_BxL: jax.Array,
    *,
    positions: jax.Array | None = None,
    prefix: Prefix | Sequence[Prefix] | None = None,
    deterministic: bool = True,
  ) -> jax.Array:
    """What `head` reads, [B, L, D]: pick positions before they cost V each."""
    x_BxLxD, *rest = self._start(ids_BxL, mask_BxL, positions, prefix)
    x_BxLxD = self.dropout(x_BxLxD, deterministic=deterministic)
    x_BxLxD, _ = self.layers(x_BxLxD, *rest, deterministic)
    return self.norm(x_BxLxD)

  def head(self, x: jax.Array) -> jax.Array:
    """Logits [..., V] in float32 of hidden [..., D]."""
    if self.config.tied:
      return self.token_embedder.logits(x)
    dtype = products.wide(x.dtype)
    head = functools.partial(self.unembedder, out_dtype=dtype)
    return layers.to_vocab(head, x)

  def key_values(
    self,
    ids_MxP: jax.Array,
    mask_MxP: jax.Array,
    *,
    prefix: Prefix | Sequence[Prefix] | None = None,
    deterministic: bool = True,
  ) -> Prefix:
    """These tokens as a prefix of others; behind `prefix`, if one is given."""
    x_MxPxD, *rest = self._start(ids_MxP, mask_MxP, None, prefix)
    x_MxPxD = self.dropout(x_MxPxD, deterministic=deterministic)
    x_MxPxD, (key, value) = self.layers.with_block(
      x_MxPxD, *rest, deterministic
    )
    last_MxD = at_last(self.norm(x_MxPxD), mask_MxP)
    last_MxD = or_before(last_MxD, mask_MxP, _several(prefix))
    return {'key': key, 'value': value, 'mask': mask_MxP, 'last': last_MxD}

  def prefill(
    self,
    ids_BxL: jax.Array,
    mask_BxL: jax.Array,
    *,
    prefix: Prefix | Sequence[Prefix] | None = None,
    max_length: int,
  ) -> tuple[jax.Array, Cache]:
    """Logits [B, V] of the next token, and a cache for max_length more."""
    own = self.key_values(ids_BxL, mask_BxL, prefix=prefix)
    return self.cached(own, prefix=prefix, max_length=max_length)

  def cached(
    self,
    own: Prefix,
    *,
    prefix: Prefix | Sequence[Prefix] | None = None,
    max_length: int,
  ) -> tuple[jax.Array, Cache]:
    """As `prefill`, of tokens whose `key_values` behind `prefix` are there."""
    before, batch = _several(prefix), len(own['mask'])
    shared = [one for one in before if one['key'].shape[2] == 1]
    each = [one for one in before if one['key'].shape[2] != 1]
    room = {'key': 4, 'value': 3, 'mask': 1}
    filled = _joined([*each, own], batch)
    cache = {
      name: _padded(filled[name], axis, max_length)
      for name, axis in room.items()
    }
    cache['index'] = jnp.int32(filled['mask'].shape[1])
    cache['position'] = _count(own['mask'], before)
    if shared:
      front = _joined(shared, batch)
      cache |= {f'prefix_{name}': front[name] for name in room}
    return self.head(own['last']), cache

  def decode_step(
    self, ids_B: jax.Array, cache: Cache
  ) -> tuple[jax.Array, Cache]:
    """Logits [B, V] after one more id each, and the cache behind it."""
    position_Bx1 = cache['position'][:, None]
    x_Bx1xD = self.embed(ids_B[:, None], position_Bx1)
    kinds = ('prefix_', '') if 'prefix_key' in cache else ('',)
    past = tuple((cache[f'{k}key'], cache[f'{k}value']) for k in kinds)
    biases = tuple(layers.mask_bias(cache[f'{k}mask']) for k in kinds)
    own = jnp.zeros((1, 1, 1, 1), jnp.float32)
    rotation = self.rotation(position_Bx1)
    x_Bx1xD, (key, value) = self.layers.with_block(
      x_Bx1xD, past, (*biases, own), rotation, True
    )
    # All layers' new rows are written at once, which XLA does in place.
    index, write = cache['index'], jax.lax.dynamic_update_slice_in_dim
    seen = jnp.ones_like(cache['mask'][:, :1])
    cache = cache | {
      'key': write(cache['key'], key, index, axis=4),
      'value': write(cache['value'], value, index, axis=3),
      'mask': write(cache['mask'], seen, index, axis=1),
      'position': cache['position'] + 1,
      'index': index + 1,
    }
    return self.head(self.norm(x_Bx1xD)[:, 0]), cache

  def _start(self, ids_BxT, mask_BxT, positions, prefix):
    """What the layers read: x, past blocks, biases and rotation."""
    before = _several(prefix)
    if positions is None:
      counted = jnp.cumsum(mask_BxT, axis=1) - 1
      behind_B = _count(jnp.zeros_like(mask_BxT), before)
      positions = jnp.maximum(counted, 0) + behind_B[:, None]
    past = tuple((one['key'], one['value']) for one in before)
    biases = [layers.mask_bias(one['mask']) for one in before]
    biases.append(own_bias(mask_BxT))
    x_BxTxD = self.embed(ids_BxT, positions)
    return x_BxTxD, past, tuple(biases), self.rotation(positions)


def own_bias(mask_BxT: jax.Array) -> jax.Array:
  """Float32 [B, 1, T, T]: 0 where a token sees another, else out of reach."""
  length = mask_BxT.shape[1]
  seen_TxT = jnp.tril(jnp.ones((length, length), bool))
  seen_Bx1xTxT = (seen_TxT & mask_BxT[:, None, :])[:, None]
  return jnp.where(seen_Bx1xTxT, 0.0, layers.MASKED).astype(jnp.float32)


def _several(prefix: Prefix | Sequence[Prefix] | None) -> tuple[Prefix, ...]:
  if prefix is None:
    return ()
  return (prefix,) if isinstance(prefix, dict) else tuple(prefix)


def _count(mask_BxL: jax.Array, before: Sequence[Prefix]) -> jax.Array:
  """Real tokens [B] of each row and of what stands before it."""
  masks = [mask_BxL, *(one['mask'] for one in before)]
  counts = [jnp.sum(mask, axis=1, dtype=jnp.int32) for mask in masks]
  return sum(counts[1:], counts[0])


def at_last(x_BxLxD: jax.Array, mask_BxL: jax.Array) -> jax.Array:
  """[B, D] of each row's last real token."""
  length = mask_BxL.shape[1]
  last_B = length - 1 - jnp.argmax(mask_BxL[:, ::-1], axis=1)
  return jnp.take_along_axis(x_BxLxD, last_B[:, None, None], axis=1)[:, 0]


def or_before(
  last_BxD: jax.Array, mask_BxL: jax.Array, before: Sequence[Prefix]
) -> jax.Array:
  """What stands before a row's next token: a row without a token of its own
  ends where its prefix does."""
  if not before or 'last' not in before[-1]:
    return last_BxD
  some_Bx1 = mask_BxL.any(axis=1, keepdims=True)
  return jnp.where(some_Bx1, last_BxD, before[-1]['last'])


def _joined(parts: Sequence[Prefix], batch: int) -> Prefix:
  """Blocks that follow each other as one."""
  masks = [
    jnp.broadcast_to(one['mask'], (batch, one['mask'].shape[1]))
    for one in parts
  ]
  return {
    'key': jnp.concatenate([one['key'] for one in parts], axis=4),
    'value': jnp.concatenate([one['value'] for one in parts], axis=3),
    'mask': jnp.concatenate(masks, axis=1),
  }


def _padded(array: jax.Array, axis: int, length: int) -> jax.Array:
  widths = [(0, 0)] * array.ndim
  widths[axis] = (0, length)
  return jnp.pad(array, widths)
