"""Summarisation, question answering and translation by a causal model.

Owns the three text formats and which metrics score them. The words of a format
name its parts and give no instruction: what is to be done is what a prompt, in
vectors or in words, stands in front to say. Rows are of one schema a task,
whatever files they come from (`data/generation.py`).
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ptjax.config import UserError
from ptjax.tasks import metrics
from ptjax.tasks.base import Example, Row, Task

SUITE = TASKS = ('summarization', 'qa', 'translation')


@dataclasses.dataclass(frozen=True)
class Text(Task):
  """'Name : value … Name :' -> a text, scored against all that are right.

  Attributes:
    fields: (name in the input, name in the row), in order.
    answer: (name at the input's end, name in the row); the row has a text
      there, or a list of them, of which the first is learnt.
    measured: a name of `metrics.OF_ANSWERS`.
  """

  word: str = ''
  fields: tuple[tuple[str, str], ...] = ()
  answer: tuple[str, str] = ('', '')
  measured: str = ''

  def convert(self, row: Row, number: int, *, split: str) -> Iterator[Example]:
    where = self.where(split, number)
    parts = [
      (name, self.field(row, key, where=where, kind=str))
      for name, key in self.fields
    ]
    name, key = self.answer
    if split != 'test':
      self.field(row, key, where=where)
    answers = _answers(row.get(key), f'{where} has {key!r}')
    yield Example(
      self.word + asked(parts, name),
      answers[0] if answers else '',
      meta={
        'idx': row.get('idx', number),
        'label': answers[0] if answers else None,
        'answers': answers,
      },
    )

  def measure(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> dict[str, float]:
    answers = [e.meta['answers'] for e in examples]
    return metrics.OF_ANSWERS[self.measured](answers, predictions)


def asked(parts: Iterable[tuple[str, str]], answer: str) -> str:
  """'Name : value Name : value Answer :', without a space at its end."""
  said = [f'{name} : {value.strip()}' for name, value in parts]
  return ' '.join([*said, f'{answer} :'])


def _answers(value: Any, where: str) -> tuple[str, ...]:
  """What is right, in the file's order; none where nobody knows."""
  texts = value if isinstance(value, (list, tuple)) else [value or '']
  if not all(isinstance(text, str) for text in texts):
    raise UserError(
      f'{where} = {str(value)[:40]}, expected a text or a list of texts'
    )
  return tuple(text.strip() for text in texts if text.strip())


def task(name: str, *, prefix: bool = False) -> Text:
  """A task of TASKS.

  Args:
    prefix: whether the task's name stands in front of the input.

  Raises:
    UserError: the package that measures it is not installed.
  """
  measured, names, answer, fields = _TABLE[name]
  metrics.check(measured)
  return Text(
    f'generation/{name}',
    metric_names=names,
    word=f'{name} ' if prefix else '',
    fields=fields,
    answer=answer,
    measured=measured,
  )


_TABLE = {
  'summarization': (
    'rouge',
    ('rouge1', 'rouge2', 'rougeL'),
    ('Summary', 'summary'),
    (('Text', 'document'),),
  ),
  'qa': (
    'squad',
    ('em', 'f1'),
    ('Answer', 'answers'),
    (('Context', 'context'), ('Question', 'question')),
  ),
  'translation': (
    'bleu',
    ('bleu',),
    ('German', 'de'),
    (('English', 'en'),),
  ),
}
