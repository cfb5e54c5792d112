"""What a task is: rows of a data set in, examples of text out, answers scored.

Owns the forms (Example, Task), the lookup of a task by its name, and the
sentences for rows that do not fit. Knows neither ids and arrays nor models.
"""

import abc
import collections
import dataclasses
import importlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ptjax.config import UserError, nearest, one_of

SPLITS = ('train', 'dev', 'test')
# Files of this folder whose tasks are named by a word: 'superglue/rte', 'rte'.
FAMILIES = ('superglue', 'raft', 'generation')

Row = Mapping[str, Any]
KINDS = {str: 'text', int: 'a whole number', list: 'a list'}


@dataclasses.dataclass(frozen=True)
class Example:
  """One question to a model.

  Attributes:
    inputs: what it reads.
    targets: what it should say; '' where nobody knows.
    choices: what rank classification chooses from; () if there is nothing.
    meta: what scoring and submission need. `idx` as in the data set, `label`
      (None where nobody knows), and `group`, `answers`, … by task.
  """

  inputs: str
  targets: str
  choices: tuple[str, ...] = ()
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
  """How rows become examples and answers become scores.

  A kind of task says what one row is (`convert`) and what is measured
  (`measure`).

  Attributes:
    name: 'family/task'.
    labels: label words in the order of their indices; () for free text.
    init_words: what class-label initialisation of a prompt starts from.
    metric_names: in the order in which they are published.
  """

  name: str
  labels: tuple[str, ...] = ()
  init_words: tuple[str, ...] = ()
  metric_names: tuple[str, ...] = ()

  @abc.abstractmethod
  def convert(self, row: Row, number: int, *, split: str) -> Iterable[Example]:
    """The examples of one row; none if the split leaves it out."""

  @abc.abstractmethod
  def measure(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> dict[str, float]:
    """{metric: ×100}, over examples that all have labels."""

  def examples(self, rows: Sequence[Row], split: str) -> list[Example]:
    """All examples of a split.

    Raises:
      UserError: a row lacks a field, or its label where the split needs one.
    """
    one_of('split', split, SPLITS)
    out = []
    for number, row in enumerate(rows):
      for example in self.convert(row, number, split=split):
        if split != 'test' and example.meta.get('label') is None:
          raise UserError(
            f'{self.where(split, number)} has no label, which {split} needs'
          )
        out.append(example)
    if not out:
      raise UserError(
        f'{self.name}: nothing to learn from or to score in the '
        f'{len(rows)} rows of {split}'
      )
    return out

  def metrics(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> dict[str, float]:
    """{metric: ×100}, in the published order.

    Raises:
      UserError: the examples have no labels; see `labelled`.
    """
    if len(predictions) != len(examples):
      raise ValueError(
        f'{len(predictions)} predictions for {len(examples)} examples'
      )
    if not self.labelled(examples):
      raise UserError(
        f'{self.name}: these examples have no labels to be scored against; '
        'their answers can be submitted'
      )
    return self.measure([p.strip() for p in predictions], examples)

  def score(self, metrics: Mapping[str, float]) -> float:
    """One number for the task: the mean over its metrics."""
    return math.fsum(metrics.values()) / len(metrics)

  def labelled(self, examples: Sequence[Example]) -> bool:
    """Whether they can be scored; a test split often cannot."""
    return all(e.meta.get('label') is not None for e in examples)

  def counted(self, examples: Sequence[Example]) -> int:
    """How many the metrics are computed over."""
    return len(examples)

  def invalid(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> float:
    """Share ×100 of answers that are no label; 0 for free text."""
    if not self.labels or not predictions:
      return 0.0
    wrong = sum(self.index(p) < 0 for p in predictions)
    return 100 * wrong / len(predictions)

  def index(self, text: str) -> int:
    """Index of a label word, -1 for anything else."""
    text = text.strip()
    return self.labels.index(text) if text in self.labels else -1

  def majority(self, examples: Sequence[Example]) -> str:
    """The commonest answer of training examples; of equals, the first."""
    counts = collections.Counter(e.targets for e in examples)
    return counts.most_common(1)[0][0]

  def majority_answers(
    self, train: Sequence[Example], examples: Sequence[Example]
  ) -> list[str]:
    """What the majority baseline says to each of `examples`."""
    return [self.majority(train)] * len(examples)

  def units(self, rows: Sequence[Row]) -> list[Row]:
    """Training rows cut into what few-shot learning counts as one."""
    return list(rows)

  def remarks(self, examples: Sequence[Example]) -> list[str]:
    """Sentences about rows and labels that are not as they should be."""
    del examples
    return [
      f'the label {short!r} is how {long!r} begins, so that one generated '
      'piece makes the other of it; rank classification tells them apart '
      '(eval.by=rank)'
      for short, long in itertools.permutations(self.labels, 2)
      if long.startswith(short)
    ]

  def where(self, split: str, number: int) -> str:
    return f'{self.name}: row {number} of {split}'

  def field(
    self, row: Row, key: str, *, where: str, kind: type = object
  ) -> Any:
    """The value of a field that must be there and of a kind, one of KINDS."""
    if not isinstance(row, Mapping):
      raise UserError(f'{where} is {_shown(row)}, not an object')
    if key not in row:
      raise UserError(
        f'{where} has no field {key!r}{nearest(key, row)}; '
        f'it has {", ".join(map(str, row)) or "none"}'
      )
    if not isinstance(row[key], kind):
      raise UserError(
        f'{where} has {_shown(row[key])} in {key!r}, expected {KINDS[kind]}'
      )
    return row[key]


def _shown(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 40 else f'{text[:40]}…'


def label_index(value: Any, labels: Sequence[str], *, where: str) -> int | None:
  """Index of a label however a file writes it: true, 1, 'entailment'.

  None if there is none: absent or -1, as in test files.
  """
  if value is None or value in (-1, '-1', ''):
    return None
  words = [word.lower() for word in labels]
  text = str(value).strip()
  # true is a word, and a number only to Python.
  for names in (words, [str(i) for i in range(len(labels))]):
    if text.lower() in names:
      return names.index(text.lower())
  raise UserError(
    f'{where} has the label {_shown(value)}; it can be {", ".join(labels)} '
    f'or 0 to {len(labels) - 1}'
  )


def short(task: Task) -> str:
  """What files and results call it: 'superglue/rte' -> 'rte'."""
  return task.name.rpartition('/')[-1]


def load(name: str, *, prefix: bool = False, **options: Any) -> Task:
  """The task of that name.

  Args:
    name: 'superglue/rte', 'rte', or 'custom/NAME' with its options.
    prefix: whether inputs begin with the task's own word, as T5 had them.
    **options: of a custom task, see `tasks.custom.task`.
  """
  family, _, row = name.partition('/')
  if family == 'custom':
    module = importlib.import_module('ptjax.tasks.custom')
    return module.task(row, **options)
  found = names(name)
  if len(found) > 1:
    raise UserError(f'task={name!r} is {len(found)} tasks; name one of them')
  family, _, row = found[0].partition('/')
  return _family(family).task(row, prefix=prefix, **options)


def names(words: str) -> list[str]:
  """Full names of tasks: 'superglue' is all of its, 'boolq+rte' is two."""
  known, short = {}, []
  for family in FAMILIES:
    module = _family(family)
    known[family] = [f'{family}/{row}' for row in module.SUITE]
    short += [family, *module.TASKS]
    for row in module.TASKS:
      known[f'{family}/{row}'] = known[row] = [f'{family}/{row}']
  out = []
  for word in map(str.strip, words.split('+')):
    if word not in known:
      raise UserError(
        f'task={word!r} is not known{nearest(word, known)}; '
        f'it can be {", ".join(short)}'
      )
    out += known[word]
  return list(dict.fromkeys(out))


def _family(name: str) -> Any:
  return importlib.import_module(f'ptjax.tasks.{name}')
