"""Several tasks as one: their examples together, each scored as its own.

Owns which task an example is of, and how their scores become one. How often
each comes is the data's to say.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ptjax.config import UserError
from ptjax.tasks.base import Example, Row, Task, short

_OF = 'part'  # what an example's meta calls the number of its task


@dataclasses.dataclass(frozen=True)
class Mixture(Task):
  """See `base.Task`; metrics are called 'TASK/METRIC'.

  Attributes:
    parts: the tasks, whose short names differ.
  """

  parts: tuple[Task, ...] = ()

  def convert(self, row: Row, number: int, *, split: str) -> Iterable[Example]:
    raise NotImplementedError('rows are those of one task; see `gather`')

  def gather(
    self, examples: Callable[[Task], Sequence[Example]]
  ) -> list[Example]:
    """What `examples` gives for each part, one after the other."""
    return [
      dataclasses.replace(e, meta={**e.meta, _OF: number})
      for number, part in enumerate(self.parts)
      for e in examples(part)
    ]

  def numbers(self, examples: Sequence[Example]) -> list[int]:
    """Which part each is of."""
    return [example.meta[_OF] for example in examples]

  def measure(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> dict[str, float]:
    said = self._groups(examples, predictions)
    return {
      f'{short(part)}/{name}': value
      for part, group, answers in zip(self.parts, self._groups(examples), said)
      if group  # the first examples alone may be of one task
      for name, value in part.measure(answers, group).items()
    }

  def score(self, metrics: Mapping[str, float]) -> float:
    """The mean over tasks of the mean over a task's metrics."""
    of: dict[str, list[float]] = {}
    for name, value in metrics.items():
      of.setdefault(name.partition('/')[0], []).append(value)
    means = [math.fsum(values) / len(values) for values in of.values()]
    return math.fsum(means) / len(means)

  def invalid(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> float:
    if not predictions:
      return 0.0
    groups = zip(
      self.parts, self._groups(examples), self._groups(examples, predictions)
    )
    shares = [len(g) * part.invalid(said, g) for part, g, said in groups]
    return math.fsum(shares) / len(predictions)

  def counted(self, examples: Sequence[Example]) -> int:
    groups = zip(self.parts, self._groups(examples))
    return sum(part.counted(group) for part, group in groups)

  def majority_answers(
    self, train: Sequence[Example], examples: Sequence[Example]
  ) -> list[str]:
    given = zip(self.parts, self._groups(train), self._groups(examples))
    each = [iter(part.majority_answers(t, e)) for part, t, e in given]
    return [next(each[e.meta[_OF]]) for e in examples]

  def remarks(self, examples: Sequence[Example]) -> list[str]:
    return [
      f'{short(part)}: {remark}'
      for part, group in zip(self.parts, self._groups(examples))
      for remark in part.remarks(group)
    ]

  def _groups(
    self, examples: Sequence[Example], values: Sequence[Any] | None = None
  ) -> list[list[Any]]:
    """The examples, or values of theirs, by the part they are of."""
    out: list[list[Any]] = [[] for _ in self.parts]
    for example, value in zip(examples, examples if values is None else values):
      out[example.meta[_OF]].append(value)
    return out


def of(parts: Sequence[Task]) -> Mixture:
  """The mixture of these tasks.

  Raises:
    UserError: there is one alone, or two have one name.
  """
  names = [short(part) for part in parts]
  if len(set(names)) < 2 or len(set(names)) < len(names):
    raise UserError(
      f'mixture: {"+".join(names)} is no mixture, which has several tasks of '
      'different names; set task=cb+rte or mixture=0'
    )
  words = [word for part in parts for word in part.init_words]
  return Mixture(
    name=f'mixture/{"+".join(names)}',
    init_words=tuple(dict.fromkeys(words)),
    parts=tuple(parts),
  )
