"""T5 under a prompt: ptjax's side, on rows of one length.

Owns what it is asked for; it is the functions of a run. Knows no clock and no
peer, which is `t5_peft`.
"""

from typing import Any

import jax
import numpy as np

from ptjax.bench import our_side
from ptjax.data import batch
from ptjax.data.batch import Encoded


class Ours(our_side.Ours):
  """One prompt in training, rank classification and greedy decoding."""

  def train(self, ids_BxL: np.ndarray, targets_BxT: np.ndarray) -> Any:
    """One update; (loss in nats a token, norm of the gradient) before it."""
    one = self._batch(ids_BxL, targets_BxT, members=True)
    return self.update(one)

  def update(self, one: Any) -> Any:
    """The same, of a batch that is made."""
    self._state, metrics = self._made.train_step(self._state, self._frozen, one)
    return metrics['loss'][0], metrics['grad_norm'][0]

  def rank(self, ids_BxL: np.ndarray, choices_BxCxT: np.ndarray) -> Any:
    """Log-probability in nats of each row's choices, [B, C]."""
    one = self._batch(ids_BxL, choices_BxCxT)
    sums_ExBxC, _ = self._made.choices(self._state.tuned, self._frozen, one)
    return sums_ExBxC[0]

  def generate(self, ids_BxL: np.ndarray, count: int) -> Any:
    """The `count` tokens that are likeliest, one after the other, [B, T]."""
    one = self._batch(ids_BxL, np.zeros((len(ids_BxL), 0), np.int32))
    return self._made.answers(
      self._state.tuned, self._frozen, one, max_length=count
    )[0]

  def _batch(
    self, ids_BxL: np.ndarray, said: np.ndarray, *, members: bool = False
  ) -> Any:
    """Made once: in a run the host makes the next one while a step is
    computed."""
    key = ids_BxL.shape, said.shape, members
    if key not in self._held:
      size = said.shape[1] if said.ndim == 3 else 0
      rows = [
        Encoded(ids, *((own[0], tuple(own)) if size else (own,)))
        for ids, own in zip(ids_BxL, said)
      ]
      shape = ids_BxL.shape[1], max(1, said.shape[-1])
      made = batch.make(rows, range(len(rows)), shape=shape, choices=size)
      if members:
        made = jax.tree.map(lambda x: x[None], made)
      self._held[key] = jax.device_put(made)
    return self._held[key]
