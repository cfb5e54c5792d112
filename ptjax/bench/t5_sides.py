"""T5 under a prompt: ptjax's side and PEFT's, on rows of one length.

Owns what each side is asked for. Ours is the functions of a run; PEFT's is
eager torch, as its users write it. Knows no clock.
"""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from ptjax.bench import our_side, peft_side
from ptjax.data import batch, tokenizer
from ptjax.data.batch import Encoded
from ptjax.tasks.base import Example


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

  @property
  def tokenizer(self) -> tokenizer.Tokenizer:
    """The model's own."""
    return self._made.tokenizer

  def pass_over(self, batches: Iterable[batch.Batch]) -> Any:
    """An update on each; of the last, as `update`."""
    value = None
    for one in batches:
      value = self.update(jax.tree.map(lambda x: x[None], one))
    return value

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
  tokens: Any = None  # its tokenizer, once it is read

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

  def pass_over(
    self, examples: Sequence[Example], pieces: str, *, size: int, length: int
  ) -> Any:
    """An update on each batch in random order, padded to its longest row.

    Gives what `step` does of the last.
    """
    if self.tokens is None:
      self.tokens = self.transformers.T5Tokenizer.from_pretrained(pieces)
    order = np.random.default_rng(0).permutation(len(examples))
    value = None
    for start in range(0, len(order) - size + 1, size):
      rows = [examples[i] for i in order[start : start + size]]
      how = {'return_tensors': 'pt', 'padding': 'longest', 'truncation': True}
      read = self.tokens([row.inputs for row in rows], max_length=length, **how)
      said = self.tokens(
        [row.targets for row in rows], max_length=length, **how
      )
      labels = said.input_ids.masked_fill(said.attention_mask == 0, -100)
      sides = read.input_ids, read.attention_mask, labels
      value = self.step(*(side.to(self.device) for side in sides))
    return value

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
