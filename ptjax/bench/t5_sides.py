"""T5 under a prompt: ptjax's side and PEFT's, on rows of one length.

Owns what each side is asked for. Ours is the functions of a run; PEFT's is
eager torch, as its users write it. Knows no clock.
"""

import pathlib
from typing import Any

import jax
import numpy as np

from ptjax.bench import our_side, peft_side
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


class Peft(peft_side.Side):
  """A frozen T5, a prompt in front of its encoder, AdamW; no dropout."""

  task = 'SEQ_2_SEQ_LM'
  # By itself PEFT gives a decoder half of a prompt that it never reads.
  options = {'num_transformer_submodules': 1}

  def load(self, folder: pathlib.Path, dtype: Any) -> Any:
    return self.transformers.AutoModelForSeq2SeqLM.from_pretrained(
      folder, dtype=dtype, dropout_rate=0.0
    )

  def train(self, ids_BxL: np.ndarray, targets_BxT: np.ndarray) -> Any:
    """One update; (loss in nats a token, norm of the gradient) before it."""
    ids, targets = self.put(ids_BxL), self.put(targets_BxT)
    return self.step(ids, self.torch.ones_like(ids), targets)

  def step(self, ids: Any, mask: Any, labels: Any) -> Any:
    """The same, of tensors on the device; labels of -100 do not count."""
    return self.update(
      lambda: self.model(input_ids=ids, attention_mask=mask, labels=labels).loss
    )

  def rank(self, ids_BxL: np.ndarray, choices_BxCxT: np.ndarray) -> Any:
    """Log-probability in nats of each row's choices, a forward pass each."""
    ids, torch = self.put(ids_BxL), self.torch
    mask = torch.ones_like(ids)
    self.model.eval()
    found = []
    with torch.no_grad():
      for targets_BxT in choices_BxCxT.swapaxes(0, 1):
        labels = self.put(targets_BxT)
        logits = self.model(
          input_ids=ids, attention_mask=mask, labels=labels
        ).logits
        logs = torch.log_softmax(logits.float(), dim=-1)
        hits = torch.gather(logs, -1, labels[..., None])
        found.append(hits[..., 0].sum(-1))
      return torch.stack(found, dim=1)

  def generate(self, ids_BxL: np.ndarray, count: int) -> Any:
    """The `count` tokens that are likeliest, one after the other, [B, T]."""
    return self.answers(self.put(ids_BxL), count)[:, 1:]  # behind the start
