"""A written prompt: words in front of every input (Brown et al. 2020, §2).

Owns how an instruction, demonstrations and an input are joined, which training
examples demonstrate, and what gives way where all of it is too long. Text in,
text out: of ids it knows only how many there are.
"""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ptjax.config import UserError, check_text
from ptjax.data import pipeline
from ptjax.data.batch import Encoded
from ptjax.data.tokenizer import Tokenizer
from ptjax.tasks.base import Example

NAME = 'hard_prompt'
_DRAW = 2  # beside the orders that `pipeline` draws by the same seeds


@dataclasses.dataclass(frozen=True)
class Written:
  """What one member reads in front of each input.

  Attributes:
    instruction: '' for none.
    drawn: all examples that may demonstrate, in the order of the draw.
    count: how many of them do, where there is room.
    separator: between instruction, demonstrations and input.
  """

  instruction: str
  drawn: Sequence[Example]
  count: int
  separator: str

  @property
  def words(self) -> str:
    """All that stands in front of an input that leaves room for it."""
    return self.text('', self.first)

  def text(self, inputs: str, demonstrations: Sequence[str]) -> str:
    """What is read: the instruction once, the demonstrations, the input."""
    front = [self.instruction] if self.instruction else []
    return self.separator.join([*front, *demonstrations, inputs])

  def shown(self, example: Example) -> list[str]:
    """The demonstrations of an example: never itself, nor its twin."""
    first = self.drawn[: self.count]
    if all(e.inputs != example.inputs for e in first):
      return self.first  # one list for nearly all of a split
    others = (e for e in self.drawn if e.inputs != example.inputs)
    return [solved(e) for e in itertools.islice(others, self.count)]

  @functools.cached_property
  def first(self) -> list[str]:
    """The demonstrations in front of nearly every example."""
    return [solved(e) for e in self.drawn[: self.count]]


@dataclasses.dataclass(frozen=True)
class Reading:
  """A split as one member reads it.

  Attributes:
    written: the words in front.
    examples: with the words in front.
    counts: demonstrations in front of each.
    fewer: examples that have less of them for want of room.
    cut: inputs that lost their beginning.
    encoded: the examples' ids.
  """

  written: Written
  examples: Sequence[Example]
  counts: Sequence[int]
  fewer: int
  cut: int
  encoded: Sequence[Encoded] = ()


def check(config: Any, *, members: int) -> None:
  """Refuses settings that do not go with a written prompt.

  Raises:
    UserError: so, or there is no written prompt that its settings are for.
  """
  method, grid = config.method, config.population
  if method.name != NAME:
    for key in ('instruction', 'demonstrations'):
      if method[key]:
        raise UserError(
          f'method.{key}={method[key]!r} is for method.name={NAME}; set both, '
          'or leave it out'
        )
    return
  for key, value in (('tune', config.tune), ('population.lr', grid.lr)):
    if value:
      raise UserError(
        f'{key}={tuple(value)}: {NAME} trains nothing; leave {key} out, or '
        'choose another method'
      )
  if members > 1 and not method.demonstrations:
    raise UserError(
      f'population.seeds={members} would be {members} times the same: members '
      f'of {NAME} differ in their demonstrations; set method.demonstrations'
    )


def check_alone(config: Any, prompts: Any) -> None:
  """Refuses a trained prompt beside a written one."""
  if config.method.name == NAME and prompts:
    raise UserError(
      f'--prompt names what was trained, and method.name={NAME} is written; '
      'leave one of them out'
    )


def instruction(config: Any) -> str:
  """What stands in front of a row that belongs to no task; '' for nothing.

  Raises:
    UserError: demonstrations are asked for.
  """
  method = config.method
  if method.name != NAME:
    return ''
  if method.demonstrations:
    raise UserError(
      f'method.demonstrations={method.demonstrations} are drawn from the '
      'training examples of a task, which a bare row does not have; write them '
      'into method.instruction'
    )
  return method.instruction and method.instruction + method.separator


def write(
  config: Any, training: Callable[[], Sequence[Example]], *, name: str
) -> list[Written]:
  """The prompt of each member; [] for another method.

  Args:
    training: gives the examples that are drawn from.
    name: of the task.

  Raises:
    UserError: there are fewer examples than demonstrations.
  """
  method = config.method
  if method.name != NAME:
    return []
  size = method.demonstrations
  examples = training() if size else []
  if size > len(examples):
    raise UserError(
      f'method.demonstrations={size} is more than the {len(examples)} training '
      f'examples of {name}; set it to {len(examples)} or less'
    )
  out = []
  for seed in range(config.seed, config.seed + config.population.seeds):
    order = pipeline.permutation(seed, _DRAW, size=len(examples))
    drawn = [examples[i] for i in order]
    out.append(Written(method.instruction, drawn, size, method.separator))
  return out


def solved(example: Example) -> str:
  """An input with its answer behind it, as a model that continues reads it."""
  inputs = example.inputs.rstrip(' ')
  space = ' ' if inputs[-1:].strip() else ''  # behind a newline there is none
  return f'{inputs}{space}{example.targets}'


def read(
  written: Written,
  examples: Sequence[Example],
  tokenizer: Tokenizer,
  *,
  room: int,
  keep_end: bool = False,
) -> Reading:
  """The examples with the words in front.

  The words are never cut. Where all do not fit, as few demonstrations as
  possible are left out, the last drawn first, so that what is read is what a
  smaller `count` would give. An input that is too long even without any loses
  its own beginning here, or its end to `batch.encode`.

  Args:
    room: pieces, without EOS, that an input may have.
    keep_end: whether of a long input the end is kept.

  Raises:
    UserError: the instruction leaves no room.
  """

  def sizes(texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in tokenizer.encode_batch(texts)]

  def fit(texts: Sequence[str]) -> list[bool]:
    return [size <= room for size in sizes(texts)]

  used = len(tokenizer.encode(written.text('', [])))
  if written.instruction and used >= room:
    raise UserError(
      f'method.instruction has {used} pieces, and input_length leaves '
      f'{room} for it and an input together; shorten it, or raise input_length'
    )
  check_text([written.words, *(e.inputs for e in examples)])
  shown = [written.shown(e) for e in examples]

  def text(i: int, count: int) -> str:
    return written.text(examples[i].inputs, shown[i][:count])

  most = [len(s) for s in shown]
  # Pieces at a seam may differ, so that a sum is only where to begin.
  each = sizes([shown + written.separator for shown in written.first])
  ends = list(itertools.accumulate(each))
  left = [room - size for size in sizes([text(i, 0) for i in range(len(most))])]
  begin = [bisect.bisect(ends, free) for free in left]
  counts = _most(most, text, fit, begin=begin)
  texts = [text(i, count) for i, count in enumerate(counts)]
  cut = 0
  if keep_end:
    texts, cut = _cut(written, examples, texts, fit)
  return Reading(
    written,
    [dataclasses.replace(e, inputs=t) for e, t in zip(examples, texts)],
    counts,
    sum(count < wanted for count, wanted in zip(counts, most)),
    cut,
  )


Fit = Callable[[Sequence[str]], Sequence[bool]]


def _most(
  most: Sequence[int],
  text: Callable[[int, int], str],
  fit: Fit,
  *,
  begin: Sequence[int],
) -> list[int]:
  """The largest counts, up to `most`, whose texts fit; 0 is not asked for.

  Tried first are those of `begin`, then their neighbours, then by halves.
  """
  low, high = [0] * len(most), list(most)
  trial = [max(1, min(pair)) for pair in zip(begin, most)]
  near = True
  while open_ := [i for i, least in enumerate(low) if least < high[i]]:
    for i, fits in zip(open_, fit([text(i, trial[i]) for i in open_])):
      if fits:
        low[i] = trial[i]
      else:
        high[i] = trial[i] - 1
      beside = low[i] + 1 if fits else high[i]
      trial[i] = beside if near else (low[i] + high[i] + 1) // 2
    near = False
  return low


def _cut(
  written: Written, examples: Sequence[Example], texts: list[str], fit: Fit
) -> tuple[list[str], int]:
  """(texts that fit, how many of them lost their input's beginning)."""
  long = [i for i, fits in enumerate(fit(texts)) if not fits]
  inputs = [examples[i].inputs for i in long]

  def text(k: int, size: int) -> str:
    return written.text(inputs[k][len(inputs[k]) - size :], [])

  whole = [len(text) for text in inputs]
  sizes = _most(whole, text, fit, begin=whole)
  for k, i in enumerate(long):
    texts[i] = text(k, sizes[k])
  return texts, len(long)


def counted(readings: Sequence[Reading]) -> dict[str, float]:
  """{'average': demonstrations in front of an input, 'fewest': …}."""
  counts = [count for reading in readings for count in reading.counts]
  return {
    'average': round(sum(counts) / len(counts), 4),
    'fewest': min(counts),
  }


def told(readings: Sequence[Reading], config: Any, *, name: str) -> str:
  """The sentence on demonstrations that were left out; '' if none was."""
  fewer = sum(reading.fewer for reading in readings)
  if not fewer:
    return ''
  found = counted(readings)
  return (
    f'{name}: in front of {fewer} of '
    f'{sum(len(reading.counts) for reading in readings)} inputs there is no '
    f'room for {config.method.demonstrations} demonstrations in '
    f'input_length={config.input_length}; they have as many as fit, '
    f'{found["average"]:.1f} on average over all, {found["fewest"]} at the '
    'least'
  )
