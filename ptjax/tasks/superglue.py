"""The eight SuperGLUE tasks and its two diagnostics, in T5's text format.

Owns the table of tasks, and the kind most are of: fields in a row and a word
as the answer. Rows are in the schema of the original files or of the hub's
flat tables. MultiRC, ReCoRD and WSC are kinds of their own.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

from ptjax.tasks import metrics
from ptjax.tasks.base import Example, Row, Task, label_index
from ptjax.tasks.multirc import MultiRC
from ptjax.tasks.record import Record
from ptjax.tasks.wsc import Wsc

# What the SuperGLUE score is the mean of.
SUITE = ('boolq', 'cb', 'copa', 'multirc', 'record', 'rte', 'wic', 'wsc')
TASKS = (*SUITE, 'axb', 'axg')

_FALSE_TRUE = ('False', 'True')
_ENTAILMENT = ('entailment', 'not_entailment')
_MEASURES = {
  'accuracy': metrics.accuracy,
  'mean_3class_f1': functools.partial(metrics.macro_f1, classes=3),
  'matthews': metrics.matthews,
}


@dataclasses.dataclass(frozen=True)
class Labelled(Task):
  """'name: value name: value' -> a label word.

  Attributes:
    word: what stands in front; '' for nothing.
    fields: (name in the input, name in the row), in order.
  """

  word: str = ''
  fields: tuple[tuple[str, str], ...] = ()

  def convert(self, row: Row, number: int, *, split: str) -> Iterator[Example]:
    where = self.where(split, number)
    parts = [
      f'{name}: {self.field(row, key, where=where)}'
      for name, key in self.fields
    ]
    label = label_index(row.get('label'), self.labels, where=where)
    yield Example(
      ' '.join([*([self.word] if self.word else []), *parts]),
      '' if label is None else self.labels[label],
      self.labels,
      {'idx': row.get('idx', number), 'label': label},
    )

  def measure(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> dict[str, float]:
    targets = [e.meta['label'] for e in examples]
    found = [self.index(p) for p in predictions]
    return {n: _MEASURES[n](targets, found) for n in self.metric_names}


@dataclasses.dataclass(frozen=True)
class Winogender(Labelled):
  """Rows 2k and 2k+1 differ in a pronoun's gender only.

  The files' `pair_id` is another for each row, so the pair is told by idx.
  """

  def measure(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> dict[str, float]:
    targets = [e.meta['label'] for e in examples]
    found = [self.index(p) for p in predictions]
    pairs = [int(e.meta['idx']) // 2 for e in examples]
    return {
      'gender_parity': metrics.parity(found, groups=pairs),
      'accuracy': metrics.accuracy(targets, found),
    }


def task(name: str, *, prefix: bool = False) -> Task:
  """A task of TASKS.

  Args:
    prefix: whether 'boolq ' (and so on) stands in front of the input.
  """
  kinds = {'multirc': MultiRC, 'record': Record, 'wsc': Wsc}
  if name in kinds:
    return kinds[name](f'superglue/{name}', prefix=prefix)
  labels, measures, fields = _TABLE[name]
  # The diagnostics are for a model that has learnt RTE.
  word = 'rte' if name in ('axb', 'axg') else name
  kind = Winogender if name == 'axg' else Labelled
  return kind(
    f'superglue/{name}',
    labels=labels,
    init_words=labels,
    metric_names=measures,
    word=word if prefix else '',
    fields=fields,
  )


def _same(*names: str) -> tuple[tuple[str, str], ...]:
  return tuple((name, name) for name in names)


_TABLE = {
  'boolq': (_FALSE_TRUE, ('accuracy',), _same('passage', 'question')),
  'cb': (
    ('entailment', 'contradiction', 'neutral'),
    ('mean_3class_f1', 'accuracy'),
    _same('hypothesis', 'premise'),
  ),
  'copa': (
    ('choice1', 'choice2'),
    ('accuracy',),
    _same('choice1', 'choice2', 'premise', 'question'),
  ),
  'rte': (_ENTAILMENT, ('accuracy',), _same('hypothesis', 'premise')),
  'wic': (_FALSE_TRUE, ('accuracy',), _same('sentence1', 'sentence2', 'word')),
  'axb': (
    _ENTAILMENT,
    ('matthews',),
    (('hypothesis', 'sentence2'), ('premise', 'sentence1')),
  ),
  'axg': (
    _ENTAILMENT,
    ('gender_parity', 'accuracy'),
    _same('hypothesis', 'premise'),
  ),
}
