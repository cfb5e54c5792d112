"""RAFT's Twitter complaints (Alex et al. 2021): whether a tweet complains.

Owns its text format and what its files call a label. Words of the input stand
alone between spaces, which a causal model goes on from; nothing says what the
task is but the prompt that is tuned.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from ptjax.config import UserError
from ptjax.tasks import metrics
from ptjax.tasks.base import Example, Row, Task
from ptjax.tasks.generation import asked

SUITE = TASKS = ('twitter_complaints',)
LABELS = ('complaint', 'no complaint')
# The hub counts labels from its word for none: 1 is the first.
_NUMBERS = {'1': 0, '2': 1}
_NONE = ('', 'unlabeled', '0', '-1')


@dataclasses.dataclass(frozen=True)
class Complaints(Task):
  """'Tweet text : … Label :' -> 'complaint' or 'no complaint'.

  Rows are RAFT's own: `Tweet text`, `Label` (absent in its test file), `ID`.
  """

  word: str = ''

  def convert(self, row: Row, number: int, *, split: str) -> Iterator[Example]:
    where = self.where(split, number)
    tweet = self.field(row, 'Tweet text', where=where, kind=str)
    if split != 'test':
      self.field(row, 'Label', where=where)
    label = self._label(row.get('Label'), where)
    yield Example(
      self.word + asked([('Tweet text', tweet)], 'Label'),
      '' if label is None else self.labels[label],
      self.labels,
      {'idx': row.get('ID', number), 'label': label},
    )

  def _label(self, value: object, where: str) -> int | None:
    text = '' if value is None else str(value).strip().lower()
    if text in _NONE:
      return None
    if text in self.labels:
      return self.labels.index(text)
    if text in _NUMBERS:
      return _NUMBERS[text]
    raise UserError(
      f'{where} has the label {str(value)[:40]!r}; it can be '
      f'{", ".join(self.labels)}, or 1 and 2 for them'
    )

  def measure(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> dict[str, float]:
    targets = [e.meta['label'] for e in examples]
    found = [self.index(p) for p in predictions]
    return {
      'accuracy': metrics.accuracy(targets, found),
      'macro_f1': metrics.macro_f1(targets, found, classes=len(self.labels)),
    }


def task(name: str, *, prefix: bool = False) -> Complaints:
  """A task of TASKS.

  Args:
    prefix: whether the task's name stands in front of the input.
  """
  return Complaints(
    f'raft/{name}',
    labels=LABELS,
    init_words=LABELS,
    metric_names=('accuracy', 'macro_f1'),
    word=f'{name} ' if prefix else '',
  )
