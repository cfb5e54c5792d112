"""The one place where a model and a method meet.

Owns how virtual tokens are placed and how a method's ports reach the model.
Everything else asks this for logits, choices or a decoding cache, and knows
neither the model's class nor the method's name.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ptjax import tree
from ptjax.methods.base import Method, Start
from ptjax.predict import rank

Tree = Any
Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class TunedModel:
  """A frozen encoder-decoder model and the method that tunes it.

  Hashable, so that it is static under jit. `tuned` and `frozen` are the two
  halves of one tree, {'prompt': the method's own, 'model': the network's}, cut
  by `tree.split`; gradients are taken with respect to `tuned` alone.
  """

  model: nn.Module
  method: Method

  def init(
    self,
    rng: jax.Array,
    params: Tree,
    *,
    tune: tuple[str, ...] = (),
    **start: Any,
  ) -> tuple[Tree, Tree]:
    """(tuned, frozen) of a run; `start` as in `methods.base.Start`."""
    embedding = params['token_embedder']['embedding']
    own = self.method.create(rng, Start(embedding, **start))
    joined = {**own, 'model': params}
    tuned, frozen = tree.split(joined, tune or self.method.tune)
    # The master copy: at |p| near 50 a bfloat16 prompt loses updates of 0.3.
    # A copy even where the type is right: a step donates it, and the loaded
    # weights are the next task's too.
    return jax.tree.map(lambda x: jnp.array(x, jnp.float32), tuned), frozen

  def logits(
    self, tuned: Tree, frozen: Tree, batch: Batch, *, rng=None
  ) -> jax.Array:
    """Teacher-forced logits_BxTxV, float32; dropout only if `rng` is given."""
    inputs, mask = self._place(batch)
    return self._apply(
      tuned,
      frozen,
      *(inputs, mask, self._shift(batch['targets'])),
      deterministic=rng is None,
      rngs=None if rng is None else {'dropout': rng},
    )

  def choices(
    self, tuned: Tree, frozen: Tree, batch: Batch
  ) -> tuple[jax.Array, jax.Array]:
    """(log-probability_BxC in nats with EOS, pieces_BxC) of each choice.

    Every input is encoded once, whatever the number of its choices.
    """
    inputs, mask = self._place(batch)
    encoded = self._apply(tuned, frozen, inputs, mask, method='encode')
    choices = batch['choices']
    B, C, T = choices.shape

    def score(targets_BxT):
      logits = self._apply(
        tuned,
        frozen,
        *(self._shift(targets_BxT), encoded, mask),
        method='decode',
      )
      return rank.log_probs(
        logits, targets_BxT, target_mask_BxT=targets_BxT != self._config.pad_id
      )

    sums, counts = jax.lax.map(score, choices.swapaxes(0, 1))
    return sums.T, counts.T

  def prefill(
    self, tuned: Tree, frozen: Tree, batch: Batch, *, max_length: int
  ) -> Tree:
    """The cache from which `decode_step` starts."""
    inputs, mask = self._place(batch)
    encoded = self._apply(tuned, frozen, inputs, mask, method='encode')
    return self._apply(
      tuned,
      frozen,
      *(encoded, mask),
      max_length=max_length,
      method='init_cache',
    )

  def decode_step(
    self, tuned: Tree, frozen: Tree, ids_B: jax.Array, cache: Tree
  ) -> tuple[jax.Array, Tree]:
    """One more token for every row: (logits_BxV, cache)."""
    return self._apply(tuned, frozen, ids_B, cache, method='decode_step')

  @property
  def _config(self) -> Any:
    return self.model.config

  def _apply(self, tuned: Tree, frozen: Tree, *args, rngs=None, **kwargs):
    own = tree.join(tuned, frozen)
    params = own.pop('model')
    return self.model.apply(
      {'params': params, 'ports': self.method.expand(own)},
      *args,
      rngs=rngs,
      **kwargs,
    )

  def _place(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Virtual tokens in front: ids from the embedding's row count upward.

    `batch['front']`, integers [B], says how many of a row's virtual tokens
    count, the last ones; a row with 0 is the untuned model's, in the same
    compiled function. Without it all count.
    """
    inputs_BxL, mask_BxL = batch['inputs'], batch['input_mask'].astype(bool)
    shape = (inputs_BxL.shape[0], self.method.front)
    first = self._config.vocab_size
    ids_P = jnp.arange(first, first + shape[1], dtype=inputs_BxL.dtype)
    front_B = batch.get('front', jnp.full(shape[0], shape[1]))
    front_BxP = jnp.arange(shape[1]) >= shape[1] - front_B[:, None]
    return (
      jnp.concatenate([jnp.broadcast_to(ids_P, shape), inputs_BxL], axis=1),
      jnp.concatenate([front_BxP, mask_BxL], axis=1),
    )

  def _shift(self, targets_BxT: jax.Array) -> jax.Array:
    """Decoder inputs: the start token, then all targets but the last."""
    start = jnp.full_like(targets_BxT[:, :1], self._config.decoder_start_id)
    return jnp.concatenate([start, targets_BxT[:, :-1]], axis=1)


def check_ports(
  tuned_model: TunedModel, tuned: Tree, frozen: Tree, batch: Batch
) -> None:
  """Raises if the model ignores part of what trains.

  Flax drops a variable that no module asks for without a word, so a misspelled
  port would train nothing. What does not reach the logits in the abstract
  program is refused here, before anything is computed.
  """
  names, leaves = zip(*tree.flatten(tuned).items()) if tuned else ((), ())

  def run(leaves, frozen, batch):
    joined = tree.unflatten(dict(zip(names, leaves)))
    return tuned_model.logits(joined, frozen, batch)

  program = jax.make_jaxpr(run)(list(leaves), frozen, batch).jaxpr
  used = {id(v) for eqn in program.eqns for v in eqn.invars}
  unread = [n for n, v in zip(names, program.invars) if id(v) not in used]
  if unread:
    raise RuntimeError(f'the model reads no port for {", ".join(unread)}')
