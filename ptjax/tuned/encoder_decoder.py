"""T5 and its like: virtual tokens in front of what the encoder reads.

Owns their place and the decoder's start token. An encoder looks both ways, so
every input is encoded together with its prompt. A prefix stands in front of
keys; here it is a mask that begins before its input.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ptjax import tree
from ptjax.methods.base import Attention
from ptjax.models import t5
from ptjax.tuned import base
from ptjax.tuned.base import Batch, Tree


class Tuned(base.TunedModel):
  """See `base.TunedModel`."""

  causal = False
  cache_axes = t5.CACHE_BATCH_AXES

  @property
  def attentions(self) -> dict[str, Attention]:
    config = self._config
    layers = {
      'encoder/layers/attention': config.num_layers,
      'decoder/layers/self_attention': config.num_decoder_layers,
      'decoder/layers/cross_attention': config.num_decoder_layers,
    }
    heads, size = config.num_heads, config.d_kv
    return {scope: Attention(n, heads, size) for scope, n in layers.items()}

  def key_values(
    self, params: Tree, rows_PxD: jax.Array
  ) -> dict[str, tuple[jax.Array, jax.Array]]:
    variables, ids_1xP = self._alone(params, rows_PxD)
    _, held = self.model.clone(absorb=False).apply(
      variables,
      *(ids_1xP, ids_1xP >= 0, ids_1xP),
      method='states',
      capture_intermediates=lambda _, method: method == 'key_value',
      mutable=['intermediates'],
    )
    named = tree.flatten(held['intermediates'])
    return {
      name.removesuffix('/key_value'): tuple(x[:, 0] for x in called)
      for name, (called,) in named.items()
    }

  def states(
    self, tuned: Tree, frozen: Tree, batch: Batch, *, rng=None
  ) -> jax.Array:
    tuned, batch = self._of_tasks(tuned, frozen, batch)
    inputs, mask = self._place(batch)
    return self._apply(
      base.of_rows(tuned, batch),
      frozen,
      *(inputs, mask, self._shift(batch['targets'])),
      deterministic=rng is None,
      rngs=None if rng is None else {'dropout': rng},
      method='states',
    )

  def head(self, variables: Tree, x: jax.Array) -> jax.Array:
    return self.model.apply(variables, x, method='logits')

  def read(
    self,
    tuned: Tree,
    frozen: Tree,
    batch: Batch,
    *,
    made: jax.Array | None = None,
  ) -> '_Read':
    """See `base.TunedModel.read`.

    Args:
      made: `_Read.made` of another program, where this one is not to encode.
    """
    tuned, batch = self._of_tasks(tuned, frozen, batch)
    apply = functools.partial(self._apply, base.of_rows(tuned, batch), frozen)
    inputs, mask_BxS = self._place(batch)
    if made is None:
      made = apply(inputs, mask_BxS, method='encode')
    return _Read(self, apply, made, mask_BxS)

  def decode_step(
    self, tuned: Tree, frozen: Tree, ids_B: jax.Array, cache: Tree
  ) -> tuple[jax.Array, Tree]:
    # What is decoded is real; the rows' virtual tokens have been encoded.
    variables = self._without_prompt(tuned, frozen)
    return self.model.apply(variables, ids_B, cache, method='decode_step')

  def _apply(self, tuned: Tree, frozen: Tree, *args, **kwargs):
    return self.model.apply(self._variables(tuned, frozen), *args, **kwargs)

  def _place(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Ids [B, J] and mask [B, S], with virtual tokens, or a prefix in front."""
    inputs_BxL, mask_BxL = batch['inputs'], batch['input_mask'].astype(bool)
    before_P, behind_Q = self._around(inputs_BxL.dtype)
    front_B, length = self._front(batch), self.method.front - len(behind_Q)
    if len(behind_Q):
      inputs_BxL, mask_BxL = base.with_behind(
        (inputs_BxL, mask_BxL),
        behind_Q,
        counts_B=front_B > 0,
        eos_id=self._config.eos_id,
      )
    front_BxP = base.last(front_B, length)
    ids_BxP = jnp.broadcast_to(before_P, (len(inputs_BxL), len(before_P)))
    return (
      jnp.concatenate([ids_BxP, inputs_BxL], axis=1),
      jnp.concatenate([front_BxP, mask_BxL], axis=1),
    )

  def _shift(self, targets_BxT: jax.Array) -> jax.Array:
    """Decoder inputs: the start token, then all targets but the last."""
    start = jnp.full_like(targets_BxT[:, :1], self._config.decoder_start_id)
    return jnp.concatenate([start, targets_BxT[:, :-1]], axis=1)


@dataclasses.dataclass(frozen=True)
class _Read(base.Read):
  """What the encoder made of the inputs."""

  tuned_model: Tuned
  apply: Callable[..., Tree]  # of the model, tuned
  made: jax.Array  # encoded_BxJxD
  mask_BxS: jax.Array

  def logits(self, ids_BxT: jax.Array, mask_BxT: jax.Array) -> jax.Array:
    del mask_BxT  # no place sees one behind it
    shifted_BxT = self.tuned_model._shift(ids_BxT)
    encoded = self.made, self.mask_BxS
    return self.apply(shifted_BxT, *encoded, method='decode')

  def prefill(self, *, max_length: int) -> tuple[None, Tree]:
    encoded = self.made, self.mask_BxS
    return None, self.apply(
      *encoded, max_length=max_length, method='init_cache'
    )
