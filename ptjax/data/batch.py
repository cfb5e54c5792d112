"""Examples -> ids -> batches of one shape; numpy only.

Owns what a row and a batch are: where EOS goes, what is cut and what is
refused, the padded lengths. Knows no order of examples and no model.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from ptjax.config import UserError, check_text
from ptjax.data.tokenizer import Tokenizer
from ptjax.tasks.base import Example

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Encoded:
  """One example as ids, each array with its EOS; see `input_ids`.

  Rows that come as ids are built by hand, `Encoded(ids, target_ids)`: nothing
  is appended or cut.

  Attributes:
    targets: empty where the answer is not known.
    choices: candidate answers of rank classification.
  """

  inputs: np.ndarray
  targets: np.ndarray
  choices: tuple[np.ndarray, ...] = ()


def encode(
  examples: Sequence[Example],
  tokenizer: Tokenizer,
  *,
  input_length: int,
  target_length: int = 0,
  causal: bool = False,
) -> tuple[list[Encoded], int]:
  """Ids of all examples, and how many inputs were too long.

  Args:
    input_length: the longest input there is; what is over is cut.
    causal: the model is decoder-only: an answer goes on where its input ends.
    target_length: the longest target or choice there may be, with EOS; 0 = as
      long as needed.

  Raises:
    UserError: a target or choice does not fit. It is never cut: a cut label
      could never be answered. Or what stands there is no text.
  """
  texts = [e.inputs for e in examples]
  check_text(texts)
  inputs = input_ids(texts, tokenizer, causal=causal)
  joints = [joint(text, tokenizer, causal=causal) for text in texts]
  words = {
    between + word
    for e, between in zip(examples, joints)
    for word in (e.targets, *e.choices)
  }
  check_text(words)
  words = sorted(words)  # a set's order is another one in every process
  ids = dict(zip(words, tokenizer.encode_batch(words)))
  end = [tokenizer.eos_id]
  answers = {text: _ids(found + end) for text, found in ids.items()}
  if target_length:
    _check_fit(answers, target_length)
  kept = len(tokenizer.begin) if causal else 0
  nothing = _ids([])
  out = [
    Encoded(
      _ids(_cut(found, input_length, causal=causal, kept=kept)),
      answers[between + example.targets] if example.targets else nothing,
      tuple(answers[between + choice] for choice in example.choices),
    )
    for example, found, between in zip(examples, inputs, joints)
  ]
  return out, sum(len(found) > input_length for found in inputs)


def input_ids(
  texts: Sequence[str], tokenizer: Tokenizer, *, causal: bool
) -> list[list[int]]:
  """What a model reads of each text.

  T5 reads the text and EOS. A decoder-only model, which is to go on from it,
  no EOS, and no space at its end: that is the first of the answer. An empty
  text is an EOS to it, which is what stands in front of a new one.
  """
  if not causal:
    end = [tokenizer.eos_id]
    return [ids + end for ids in tokenizer.encode_batch(texts)]
  begin = list(tokenizer.begin)
  found = tokenizer.encode_batch(text.rstrip(' ') for text in texts)
  return [begin + ids or [tokenizer.eos_id] for ids in found]


def joint(text: str, tokenizer: Tokenizer, *, causal: bool) -> str:
  """What stands between an input and its answer."""
  text = text.rstrip(' ')
  return tokenizer.joint if causal and text[-1:].strip() else ''


def answer_ids(
  text: str, tokenizer: Tokenizer, *, behind: str, causal: bool
) -> list[int]:
  """What is said to the input `behind`, with EOS; of nothing said, it alone."""
  between = joint(behind, tokenizer, causal=causal) if text else ''
  return [*tokenizer.encode(between + text), tokenizer.eos_id]


def _cut(ids: list[int], length: int, *, causal: bool, kept: int) -> list[int]:
  """An input that is too long loses its end before EOS; to a decoder-only model
  its beginning, but for the first `kept`: its end is what is gone on from."""
  if len(ids) <= length:
    return ids
  if not causal:
    return ids[: length - 1] + ids[-1:]
  return ids[:kept] + ids[len(ids) - (length - kept) :]


def _ids(found: Iterable[int]) -> np.ndarray:
  return np.asarray(found, np.int32)


def _check_fit(answers: dict[str, np.ndarray], length: int) -> None:
  text = max(answers, key=lambda text: len(answers[text]), default='')
  needed = len(answers[text]) if answers else 0
  if needed > length:
    shown = text if len(text) <= 60 else f'{text[:60]}…'
    raise UserError(
      f'target_length={length} is too short for the answer {shown!r}, which '
      f'needs {needed} pieces with its end; set target_length={needed} or 0'
    )


def choose_buckets(
  lengths: Sequence[int],
  *,
  max_length: int,
  rows: int = 1,
  count: int = 6,
  multiple: int = 8,
  least_gain: float = 0.03,
) -> tuple[int, ...]:
  """At most `count` padded lengths that waste the fewest positions.

  Args:
    lengths: of the rows to be padded; those above `max_length` count as it.
    max_length: no bucket is longer.
    rows: of a batch, which is padded to the longest of them: rows of about one
      length go together, so that is what is fitted.
    multiple: buckets are multiples of it, except one of `max_length`.
    least_gain: share of all positions that one more bucket must save: each
      costs a compilation of every step.

  Returns:
    Ascending lengths; the last one fits the longest row.
  """
  longest = sorted(lengths, reverse=True)[::rows]
  fitted = [min(_round_up(n, multiple), max_length) for n in longest]
  sizes, counts = np.unique(fitted or [multiple], return_counts=True)
  below = np.concatenate([[0], np.cumsum(counts)])
  n, count = len(sizes), min(count, len(sizes))
  # cost[k, j]: positions of all up to size j in k + 1 buckets, of which the
  # last is size j; came[k, j]: the bucket before it.
  cost = np.full((count, n), np.inf)
  came = np.zeros((count, n), int)
  cost[0] = below[1:] * sizes
  for k in range(1, count):
    for j in range(k, n):
      last = cost[k - 1, :j] + (below[j + 1] - below[1 : j + 1]) * sizes[j]
      came[k, j] = np.argmin(last)
      cost[k, j] = last[came[k, j]]
  k, j = 0, n - 1
  while k + 1 < count and cost[k + 1, -1] < cost[k, -1] * (1 - least_gain):
    k += 1
  chosen = [j]
  while k:
    j, k = int(came[k, j]), k - 1
    chosen.append(j)
  return tuple(int(sizes[j]) for j in reversed(chosen))


def target_length(encoded: Sequence[Encoded]) -> int:
  """One padded length for the targets and choices of a data set.

  That of the longest, no more, where each row has choices: those are of few
  pieces, and each place costs a pass through the decoder. Free text may be a
  little longer than what is known.
  """
  longest = 1
  for row in encoded:
    longest = max(longest, len(row.targets), *map(len, row.choices))
  return _round_up(longest, 1 if all(row.choices for row in encoded) else 4)


def _round_up(n: int, multiple: int) -> int:
  return max(1, math.ceil(n / multiple)) * multiple


def make(
  encoded: Sequence[Encoded],
  rows: Sequence[int],
  *,
  shape: tuple[int, int],
  pad_id: int = 0,
  choices: int = 0,
) -> Batch:
  """The batch of `encoded[i] for i in rows`.

  Args:
    rows: example numbers; -1 is a filler row, whose masks are all False but
      for one input position: attention over nothing has no value.
    shape: padded lengths of inputs and targets.
    choices: padded number of choices; 0 = leave them out.

  Returns:
    inputs, input_mask [B,L]; targets, target_mask [B,T]; index [B]: `rows`;
    and, if asked for, choices [B,C,T] with choice_lengths [B,C], which are 0
    where a row has fewer.
  """
  chosen = [encoded[i] if i >= 0 else _FILLER for i in rows]
  inputs_BxL, input_mask_BxL = _pad(
    [row.inputs for row in chosen], shape[0], pad_id
  )
  targets_BxT, target_mask_BxT = _pad(
    [row.targets for row in chosen], shape[1], pad_id
  )
  batch = {
    'inputs': inputs_BxL,
    'input_mask': input_mask_BxL,
    'targets': targets_BxT,
    'target_mask': target_mask_BxT,
    'index': _ids(rows),
  }
  if choices:
    flat = [
      answer
      for row in chosen
      for answer in (*row.choices, *[_NOTHING] * (choices - len(row.choices)))
    ]
    padded, mask = _pad(flat, shape[1], pad_id)
    batch['choices'] = padded.reshape(len(rows), choices, shape[1])
    lengths = mask.sum(-1, dtype=np.int32)
    batch['choice_lengths'] = lengths.reshape(len(rows), choices)
  return batch


_NOTHING = _ids([])
_FILLER = Encoded(_ids([0]), _NOTHING)


def _pad(
  rows: Sequence[np.ndarray], length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
  out = np.full((len(rows), length), pad_id, np.int32)
  for i, row in enumerate(rows):
    out[i, : len(row)] = row
  sizes = np.array([len(row) for row in rows], int)
  return out, np.arange(length) < sizes[:, None]
