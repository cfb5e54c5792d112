"""Decoder-only models: the prompt is run once, and every row reads it.

Owns how text is laid out for a model that only looks back: virtual tokens,
inputs, answer, each seen by what is behind it. What stands in front depends on
nothing behind it, so the keys and values of each distinct prompt are computed
once a call, whatever the number of rows, in training as in decoding. Those that
a method gives itself are read in the same way.
"""

import dataclasses

import jax
import jax.numpy as jnp

from ptjax.methods.base import Attention
from ptjax.models import causal as network
from ptjax.models import ports
from ptjax.tuned import base
from ptjax.tuned.base import Batch, Tree

# Whose ports a method fills with a prefix.
_ATTENTION = ('layers', 'attention')


@dataclasses.dataclass(frozen=True)
class Tuned(base.TunedModel):
  """See `base.TunedModel`.

  Under dropout all rows read the same draw of what is in the prompt's layers.

  Attributes:
    once: False puts the virtual tokens in front of every row instead, as other
      implementations do: the same numbers for more work.
  """

  once: bool = True

  causal = True
  cache_axes = network.CACHE_BATCH_AXES

  @property
  def attentions(self) -> dict[str, Attention]:
    config = self._config
    heads = getattr(config, 'num_kv_heads', config.num_heads)
    sizes = Attention(config.num_layers, heads, config.head_size)
    return {'/'.join(_ATTENTION): sizes}

  def key_values(
    self, params: Tree, rows_PxD: jax.Array
  ) -> dict[str, tuple[jax.Array, jax.Array]]:
    variables, ids_1xP = self._alone(params, rows_PxD)
    made = self.model.apply(
      variables, ids_1xP, ids_1xP >= 0, method='key_values'
    )
    both = made['key'][:, :, 0], made['value'][:, :, 0]
    return {'/'.join(_ATTENTION): both}

  def check_context(self, *, inputs: int, targets: int) -> None:
    front = self.method.front
    network.check_context(
      self.model.config, prompt=front, inputs=inputs, targets=targets
    )

  def states(
    self, tuned: Tree, frozen: Tree, batch: Batch, *, rng=None
  ) -> jax.Array:
    run = _Run(self, tuned, frozen, batch, rng=rng)
    return run.states(batch['targets'], batch['target_mask'].astype(bool))

  def head(self, variables: Tree, x: jax.Array) -> jax.Array:
    return self.model.apply(variables, x, method='head')

  def read(self, tuned: Tree, frozen: Tree, batch: Batch) -> '_Read':
    run = _Run(self, tuned, frozen, batch)
    own = run.apply(*run.inputs, prefix=run.prefix, method='key_values')
    return _Read(run, own)

  def decode_step(
    self, tuned: Tree, frozen: Tree, ids_B: jax.Array, cache: Tree
  ) -> tuple[jax.Array, Tree]:
    variables = self._without_prompt(tuned, frozen)
    return self.model.apply(variables, ids_B, cache, method='decode_step')

  def full_text(self, batch: Batch) -> Batch:
    """The batch in which the inputs are to be said too.

    Without virtual tokens no state stands in front of a text's first piece, so
    that one is not said.
    """
    masks = batch['input_mask'], batch['target_mask']
    mask_BxS = jnp.concatenate(masks, axis=1).astype(bool)
    ids_BxS = jnp.concatenate([batch['inputs'], batch['targets']], axis=1)
    # What pads the inputs goes behind the answer.
    order_BxS = jnp.argsort(~mask_BxS, axis=1, stable=True)
    ids_BxS = jnp.take_along_axis(ids_BxS, order_BxS, axis=1)
    mask_BxS = jnp.take_along_axis(mask_BxS, order_BxS, axis=1)
    said = 0 if self.method.places.before else 1
    return batch | {
      'inputs': ids_BxS[:, :said],
      'input_mask': mask_BxS[:, :said],
      'targets': ids_BxS[:, said:],
      'target_mask': mask_BxS[:, said:],
    }


class _Run:
  """One call: what the model is applied to, and what all rows read first."""

  def __init__(
    self,
    tuned_model: Tuned,
    tuned: Tree,
    frozen: Tree,
    batch: Batch,
    *,
    rng: jax.Array | None = None,
  ):
    self.model, self.rng = tuned_model.model, rng
    tuned, batch = tuned_model._of_tasks(tuned, frozen, batch)
    self.inputs = batch['inputs'], batch['input_mask'].astype(bool)
    self.prefix: tuple[network.Prefix, ...] = ()
    front_B = tuned_model._front(batch)
    before_P, behind_Q = tuned_model._around(batch['inputs'].dtype)
    if len(before_P) and tuned_model.once:
      each, member_B, count = _distinct(tuned, batch)
      # Alone the prompt is read from its port; then it is a prefix, no port.
      self.variables = tuned_model._variables(each, frozen)
      self.prefix = (self._prompt(before_P, front_B, member_B, count),)
      self.variables = tuned_model._without_prompt(each, frozen)
    if not self.prefix or len(behind_Q):
      own = base.of_rows(tuned, batch)
      self.variables = tuned_model._variables(own, frozen)
    if tuned_model.method.prefix:
      self.prefix = (self._given(front_B),)
    if len(behind_Q):
      counts = {'counts_B': front_B > 0}
      self.inputs = base.with_behind(self.inputs, behind_Q, **counts)
    if not tuned_model.once:
      front_BxP = base.last(front_B, len(before_P))
      placed = jnp.broadcast_to(before_P, front_BxP.shape), front_BxP
      self.inputs = tuple(
        jnp.concatenate(pair, axis=1) for pair in zip(placed, self.inputs)
      )

  def apply(self, *args, method: str, draw: int = 1, **kwargs):
    """The model's method; `draw` numbers the dropout of one call."""
    if self.rng is not None and method in ('hidden', 'key_values'):
      key = jax.random.fold_in(self.rng, draw)
      kwargs |= {'deterministic': False, 'rngs': {'dropout': key}}
    return self.model.apply(self.variables, *args, method=method, **kwargs)

  def states(
    self, targets_BxT: jax.Array, target_mask_BxT: jax.Array
  ) -> jax.Array:
    """What the head reads to say each target, [B, T, D]."""
    ids_BxL, mask_BxL = self.inputs
    length = ids_BxL.shape[1]
    x_BxSxD = self.apply(
      jnp.concatenate([ids_BxL, targets_BxT[:, :-1]], axis=1),
      jnp.concatenate([mask_BxL, target_mask_BxT[:, :-1]], axis=1),
      prefix=self.prefix,
      method='hidden',
    )
    if length:
      last_BxD = network.at_last(x_BxSxD[:, :length], mask_BxL)
      last_BxD = network.or_before(last_BxD, mask_BxL, self.prefix)
    else:
      rows = len(ids_BxL), x_BxSxD.shape[-1]
      last_BxD = jnp.broadcast_to(self.prefix[-1]['last'], rows)
    return jnp.concatenate([last_BxD[:, None], x_BxSxD[:, length:]], axis=1)

  def _prompt(self, ids_P, front_B, member_B, count) -> network.Prefix:
    """The prompts' keys and values, of M prompts or, if several, of B rows."""
    front_M = jnp.zeros(count, front_B.dtype).at[member_B].max(front_B)
    mask_MxP = base.last(front_M, len(ids_P))
    ids_MxP = jnp.broadcast_to(ids_P, mask_MxP.shape)
    prefix = self.apply(ids_MxP, mask_MxP, method='key_values', draw=0)
    if count > 1:
      prefix = network.of_rows(prefix, member_B)
    return network.leave_out(prefix, front_B > 0)

  def _given(self, front_B) -> network.Prefix:
    """The keys and values that stand in the ports, for all rows."""
    outer, inner = _ATTENTION
    filled = self.variables['ports'][outer][inner]
    key, value = (filled[name] for name in ports.PREFIX)
    return {
      'key': key[:, :, None].astype(self.model.dtype),
      'value': value[:, :, None].astype(self.model.dtype),
      'mask': base.last(front_B, key.shape[-1]),
    }


@dataclasses.dataclass(frozen=True)
class _Read(base.Read):
  """The inputs as keys and values of what is behind them."""

  run: _Run
  own: network.Prefix

  def logits(self, ids_BxT: jax.Array, mask_BxT: jax.Array) -> jax.Array:
    x_BxTxD = self.own['last'][:, None]
    if ids_BxT.shape[1] > 1:
      rest = ids_BxT[:, :-1], mask_BxT[:, :-1]
      before = (*self.run.prefix, self.own)
      rest_BxSxD = self.run.apply(*rest, prefix=before, method='hidden')
      x_BxTxD = jnp.concatenate([x_BxTxD, rest_BxSxD], axis=1)
    return self.run.apply(x_BxTxD, method='head')

  def prefill(self, *, max_length: int) -> tuple[jax.Array, Tree]:
    return self.run.apply(
      self.own, prefix=self.run.prefix, max_length=max_length, method='cached'
    )


def _distinct(tuned: Tree, batch: Batch) -> tuple[Tree, jax.Array, int]:
  """(what each of the distinct prompts is tuned by, each row's, their number).

  Of many prompts those of the rows, where the rows are fewer.
  """
  rows = batch['inputs'].shape[0]
  if 'member' not in batch:
    return tuned, jnp.zeros(rows, jnp.int32), 1
  member_B = batch['member']
  count = jax.tree.leaves(tuned)[0].shape[0]
  if count <= rows:
    return tuned, member_B, count
  own = jax.tree.map(lambda x: x[member_B], tuned)
  return own, jnp.arange(rows), rows
