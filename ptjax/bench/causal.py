"""Prompt tuning of a decoder-only model against PEFT: time and memory.

Owns what is compared, at which sizes, that both sides say the same, and how
much faster ptjax should be. Each side is a file beside this.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ptjax.bench import operations, our_side, peft_side, random_gpt, versus
from ptjax.bench.versus import DTYPES, Case, Plan
from ptjax.config import UserError

LABEL = 3  # pieces of an answer, the last of a row
ANSWER = 32  # pieces generated
# A step that trains on all pieces, on the answer; one that scores the answer;
# a whole answer, greedy.
WORKS = ('train-text', 'train-label', 'evaluate', 'generate')
# By how much two sums of the same numbers may differ.
CLOSE = {'float32': 1e-4, 'bfloat16': 3e-2}


def plan(platform: str, asked: dict[str, Sequence[Any]], **rest: Any) -> Plan:
  """What is asked for; where nothing is, what suits the platform."""
  on_cpu = platform == 'cpu'
  usual = {
    'models': ('pythia-70m', *(() if on_cpu else ('pythia-1.4b',))),
    # A CPU without units for narrow numbers takes long for bfloat16.
    'dtypes': ('float32',) if on_cpu else DTYPES,
    'prompts': (8, 100),
    'batches': (8, 32),
    'inputs': (32, 64),
    'works': WORKS,
  }
  for length in asked.get('inputs', ()):
    if length <= LABEL:
      raise UserError(
        f'--input={length} must hold an answer of {LABEL} pieces and a piece '
        'in front of it'
      )
  sizes = random_gpt.PYTHIA
  return versus.plan(asked, usual=usual, works=WORKS, sizes=sizes, **rest)


def works_of(case: Case, work: str) -> tuple[operations.Work, ...]:
  """(what ptjax computes, what PEFT does) of one call, in one `Work` each."""
  B, L, P = case.batch, case.input, case.prompt
  size = {'batch': B, 'prompt': P}
  if work == 'generate':
    # PEFT's library leaves out the head where nothing is to be said, too.
    starts = [
      of(**size, length=L, said=1)
      for of in (operations.once, operations.in_every_row)
    ]
    more = ANSWER - 1
    rest = [
      # A cache has its last length from the start; PEFT's grows.
      operations.decoding(batch=B, keys=P + L + ANSWER, steps=more),
      operations.decoding(batch=B, keys=P + L + (ANSWER + 1) // 2, steps=more),
    ]
    return tuple(
      operations.Work(*map(sum, zip(_flat(start), _flat(end))))
      for start, end in zip(starts, rest)
    )
  said = L if work == 'train-text' else LABEL
  return (
    operations.once(**size, length=L - 1, said=said),
    operations.in_every_row(**size, length=L, said=P + L),
  )


def _flat(work: operations.Work) -> tuple[int, ...]:
  return dataclasses.astuple(work)


class Causal(versus.Comparison):
  """See `versus.Comparison`."""

  peer = peft_side.Peft
  memory = 0.5

  def sizes(self, model: str) -> Any:
    return random_gpt.PYTHIA[model]

  def write(self, folder: pathlib.Path, model: str) -> None:
    random_gpt.write(folder, self.sizes(model))

  def ours(self, folder: pathlib.Path, case: Case) -> our_side.Ours:
    made = our_side.build(folder, dtype=case.dtype, prompt=case.prompt)
    return our_side.Ours(made)

  def at_least(self, platform: str, case: Case, work: str) -> float | None:
    on_cpu = platform == 'cpu'
    if on_cpu and case.dtype == 'bfloat16':
      return 1.0
    size = case.batch, case.input, case.prompt
    if work == 'train-label' and case.prompt == 8:
      return 1.5
    if size == (32, 32, 100) and work.startswith('train'):
      return 6.0 if on_cpu and work == 'train-label' else 4.0
    return None

  def count(self, case: Case, work: str) -> tuple[int, int]:
    config = self.sizes(case.model)
    both = works_of(case, work)
    if work.startswith('train'):
      return tuple(each.train(config) for each in both)
    return tuple(each.forward(config) for each in both)

  def call(self, side: Any, case: Case, work: str) -> Callable[[], Any]:
    rng = np.random.default_rng(case.batch * case.input)
    vocab_size = self.sizes(case.model).vocab_size
    ids_BxL = rng.integers(1, vocab_size, (case.batch, case.input))
    ids_BxL = ids_BxL.astype(np.int32)
    if work == 'generate':
      return lambda: side.generate(ids_BxL, ANSWER)
    if work == 'evaluate':
      return lambda: side.evaluate(ids_BxL, LABEL)
    said = case.input if work == 'train-text' else LABEL
    return lambda: side.train(ids_BxL, said)

  def compare(self, case: Case, work: str, ours: Any, theirs: Any) -> float:
    """As `versus.Comparison`; in bfloat16 near ties go either way."""
    narrow = case.dtype == 'bfloat16'
    if work == 'generate':
      found, most = versus.other_tokens(ours, theirs), 1.0 if narrow else 0.0
    else:
      if work == 'evaluate':
        sums, tokens = ours
        ours = -np.sum(sums) / np.sum(tokens)
      found, most = versus.relative(ours, theirs), CLOSE[case.dtype]
    answers = ours, theirs
    return versus.agreed(found, case, work, most=most, answers=answers)
