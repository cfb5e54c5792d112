"""Prompt tuning of a T5 against PEFT, on rows of one length: time and memory.

Owns what is compared, at which sizes, and how much faster ptjax should be. Rows
of real lengths are in `real`.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ptjax.bench import our_side, random_t5, t5_peft, t5_sides, versus
from ptjax.bench.versus import DTYPES, Case, Plan
from ptjax.models.t5 import T5Config

TARGET = 4  # pieces of an answer, EOS with them
CHOICES = 3  # answers that are ranked
ANSWER = 8  # pieces generated
WORKS = ('train', 'rank', 'generate')
# By how much two sums of the same numbers may differ.
CLOSE = {'float32': 1e-4, 'bfloat16': 3e-2}


def plan(platform: str, asked: dict[str, Sequence[Any]], **rest: Any) -> Plan:
  """What is asked for; where nothing is, what suits the platform."""
  usual = {
    'models': ('small',) if platform == 'cpu' else tuple(random_t5.SIZES),
    'dtypes': DTYPES,
    'prompts': (100,),
    'batches': (8, 32),
    'inputs': (128,),
    'works': WORKS,
  }
  sizes = random_t5.SIZES
  return versus.plan(asked, usual=usual, works=WORKS, sizes=sizes, **rest)


class T5(versus.Comparison):
  """See `versus.Comparison`."""

  peer = t5_peft.Peft
  memory = 1.0

  def sizes(self, model: str) -> T5Config:
    return random_t5.SIZES[model]

  def write(self, folder: pathlib.Path, model: str) -> None:
    random_t5.write(folder, self.sizes(model))

  def ours(self, folder: pathlib.Path, case: Case) -> t5_sides.Ours:
    made = our_side.build(folder, dtype=case.dtype, prompt=case.prompt)
    return t5_sides.Ours(made)

  def at_least(self, platform: str, case: Case, work: str) -> float | None:
    on_cpu = platform == 'cpu'
    if work == 'train':
      return 1.2 if on_cpu else 1.5
    return 2.0 if on_cpu else 3.0

  def count(self, case: Case, work: str) -> tuple[int, int]:
    config, front = self.sizes(case.model), case.prompt + case.input
    read = encoder(config, case.batch, front)
    length = ANSWER if work == 'generate' else TARGET
    ours, theirs = (
      decoder(config, case.batch, front, length, absorbed=absorbed)
      for absorbed in (work != 'generate', False)
    )
    if work == 'train':
      return train(read) + train(ours), train(read) + train(theirs)
    if work == 'generate':
      return sum(read) + sum(ours), sum(read) + sum(theirs)
    once = sum(read) + CHOICES * sum(ours)
    return once, CHOICES * (sum(read) + sum(theirs))

  def call(self, side: Any, case: Case, work: str) -> Callable[[], Any]:
    rng = np.random.default_rng(case.batch * case.input)
    vocab_size = self.sizes(case.model).vocab_size

    def ids(*shape: int) -> np.ndarray:
      return rng.integers(2, vocab_size, shape).astype(np.int32)

    inputs_BxL = ids(case.batch, case.input)
    if work == 'generate':
      return lambda: side.generate(inputs_BxL, ANSWER)
    if work == 'rank':
      choices_BxCxT = ids(case.batch, CHOICES, TARGET)
      return lambda: side.rank(inputs_BxL, choices_BxCxT)
    targets_BxT = ids(case.batch, TARGET)
    return lambda: side.train(inputs_BxL, targets_BxT)

  def compare(self, case: Case, work: str, ours: Any, theirs: Any) -> float:
    """As `versus.Comparison`; in bfloat16 near ties go either way."""
    if work == 'generate':
      found = versus.other_tokens(ours, theirs)
      most = 1.0 if case.dtype == 'bfloat16' else 0.0
    else:
      found, most = versus.relative(ours, theirs), CLOSE[case.dtype]
    answers = ours, theirs
    return versus.agreed(found, case, work, most=most, answers=answers)


def encoder(config: T5Config, batch: int, length: int) -> tuple[int, int]:
  """Operations of (products with weights, of scores and what they mix)."""
  inner = config.num_heads * config.d_kv
  weights = 4 * config.d_model * inner + 3 * config.d_model * config.d_ff
  tokens = batch * length
  layers = config.num_layers
  return 2 * tokens * layers * weights, 4 * tokens * length * layers * inner


def decoder(
  config: T5Config, batch: int, read: int, said: int, *, absorbed: bool = False
) -> tuple[int, int]:
  """The same of a decoder that says so many pieces to so many read.

  Keys and values of what is read are made, or `absorbed` by what is said, as
  `t5_attention` does it.
  """
  D, inner = config.d_model, config.num_heads * config.d_kv
  layers, tokens = config.num_decoder_layers, batch * said
  own = tokens * (6 * D * inner + 3 * D * config.d_ff)
  across = 2 * (tokens if absorbed else batch * read) * D * inner
  head = tokens * D * config.vocab_size
  products = 2 * (layers * (own + across) + head)
  width = config.num_heads * D if absorbed else inner
  return products, 4 * tokens * layers * (said * inner + read * width)


def train(forward: tuple[int, int]) -> int:
  """With the backward pass for activations alone; see `operations.Work`."""
  products, attention = forward
  return 2 * products + 3 * attention
