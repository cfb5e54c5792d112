"""T5 under a prompt on rows of real lengths: what each side does from text.

Owns passes over examples, tokenising and batching included: of ours as a run
makes them, of PEFT's as its users do, each batch padded to its longest row.
Knows no clock. Arrays of one length are in `t5_sides`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from ptjax import evaluate, parts
from ptjax.bench import t5_peft, t5_sides
from ptjax.data import batch, tokenizer
from ptjax.data.batch import Encoded
from ptjax.data.split import Split
from ptjax.tasks.base import Example

LENGTH = 512  # pieces of an input at most; the fixed length of T5X's recipe


class Ours(t5_sides.Ours):
  """A run's batches through a run's functions."""

  # What is compiled for one pass is there for the next.
  _evaluates: parts.Parts | None = None

  def train_over(
    self, examples: Sequence[Example], *, size: int, buckets: tuple[int, ...]
  ) -> Any:
    """An update on each batch of a first epoch; of the last, as `update`.

    Args:
      buckets: as `split`.
    """
    made = split(examples, self._made.tokenizer, size=size, buckets=buckets)
    value = None
    for one in first_epoch(made, size=size):
      value = self.update(jax.tree.map(lambda x: x[None], one))
    return value

  def answers_over(
    self, examples: Sequence[Example], *, size: int, by: str
  ) -> list[str]:
    """What is said to each; `by` as in `evaluate.answer`."""
    made = self._in_batches(size)
    found = split(examples, made.tokenizer, size=size)
    how = made, self._state.tuned, self._frozen, found
    return evaluate.answer(*how, by=by).ensemble

  def _in_batches(self, size: int) -> parts.Parts:
    """The parts that evaluate so many rows at once; one, as of a run."""
    if self._evaluates is None:
      self._evaluates = dataclasses.replace(
        self._made, config=self._made.config.copy_and_resolve_references()
      )
    self._evaluates.config.eval.batch_size = size
    return self._evaluates

  def wait(self, value: Any) -> Any:
    """Texts are there."""
    return value if isinstance(value, list) else super().wait(value)


class Peft(t5_peft.Peft):
  """The tokenizer's tensors through the model."""

  tokens: Any = None  # its tokenizer, once it is read

  def train_over(
    self, examples: Sequence[Example], pieces: str, *, size: int
  ) -> Any:
    """An update on each batch in random order; of the last, as `step`."""
    order = np.random.default_rng(0).permutation(len(examples))
    value = None
    for start in range(0, len(order) - size + 1, size):
      rows = [examples[i] for i in order[start : start + size]]
      labels = self._labels([row.targets for row in rows], pieces)
      value = self.step(*self._inputs(rows, pieces), labels)
    return value

  def rank_over(
    self, examples: Sequence[Example], pieces: str, *, size: int
  ) -> list[str]:
    """The likeliest choice of each, by a forward pass for each choice."""

    def say(rows: Sequence[Example], ids: Any, mask: Any) -> list[str]:
      nats = [
        self._nats(ids, mask, self._labels(list(texts), pieces))
        for texts in zip(*(row.choices for row in rows), strict=True)
      ]
      best = self.torch.stack(nats).argmax(dim=0).tolist()
      return [row.choices[i] for row, i in zip(rows, best)]

    return self._over(examples, pieces, size, say)

  def generate_over(
    self, examples: Sequence[Example], pieces: str, *, size: int, count: int
  ) -> list[str]:
    """What is said to each in at most `count` pieces."""

    def say(_: Sequence[Example], ids: Any, mask: Any) -> list[str]:
      found = self.model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=count,
        do_sample=False,
      )
      return self.tokens.batch_decode(found, skip_special_tokens=True)

    return self._over(examples, pieces, size, say)

  def wait(self, value: Any) -> Any:
    """Texts are there."""
    return value if isinstance(value, list) else super().wait(value)

  def _nats(self, ids: Any, mask: Any, labels: Any) -> Any:
    """Log-probability of each row's labels, [B]."""
    given = {'input_ids': ids, 'attention_mask': mask, 'labels': labels}
    logits = self.model(**given).logits.float()
    logs = self.torch.log_softmax(logits, dim=-1)
    hits = self.torch.gather(logs, -1, labels.clamp(min=0)[..., None])[..., 0]
    return (hits * (labels != -100)).sum(-1)

  def _over(
    self,
    examples: Sequence[Example],
    pieces: str,
    size: int,
    say: Callable[..., list[str]],
  ) -> list[str]:
    """say(rows, ids, mask) of each batch in order, one list."""
    self.model.eval()
    said = []
    with self.torch.no_grad():
      for start in range(0, len(examples), size):
        rows = examples[start : start + size]
        said += say(rows, *self._inputs(rows, pieces))
    return said

  def _inputs(self, rows: Sequence[Example], pieces: str) -> tuple[Any, Any]:
    read = self._read([row.inputs for row in rows], pieces)
    return read.input_ids, read.attention_mask

  def _labels(self, texts: list[str], pieces: str) -> Any:
    """Ids; -100 for what does not count."""
    read = self._read(texts, pieces)
    return read.input_ids.masked_fill(read.attention_mask == 0, -100)

  def _read(self, texts: list[str], pieces: str) -> Any:
    if self.tokens is None:
      self.tokens = self.transformers.T5Tokenizer.from_pretrained(pieces)
    how = {'return_tensors': 'pt', 'padding': 'longest', 'truncation': True}
    return self.tokens(texts, max_length=LENGTH, **how).to(self.device)


def encode(
  examples: Sequence[Example], pieces: tokenizer.Tokenizer
) -> list[Encoded]:
  """Their ids, inputs cut at LENGTH."""
  return batch.encode(examples, pieces, input_length=LENGTH)[0]


def split(
  examples: Sequence[Example],
  pieces: tokenizer.Tokenizer,
  *,
  size: int,
  buckets: tuple[int, ...] = (),
) -> Split:
  """The examples from text, in the shapes of a run; see `data.split`.

  Args:
    size: rows of a batch.
    buckets: padded lengths; () = as a run chooses them.
  """
  encoded = encode(examples, pieces)
  buckets = buckets or batch.choose_buckets(
    [len(row.inputs) for row in encoded], max_length=LENGTH, rows=size
  )
  length = batch.target_length(encoded)
  return Split('dev', examples, encoded, buckets, length, cut=0)


def first_epoch(made: Split, *, size: int) -> Iterator[batch.Batch]:
  """The batches of a run's first pass."""
  found = made.train_batches(batch_size=size, seed=0, start_step=0)
  return itertools.islice(found, len(made) // size)
