"""MultiRC: is this an answer to the question about the paragraph?

Owns its two schemas (the original's passage with questions and answers inside,
the hub's one row an answer), its mark-up, and its two metrics. Several answers
to a question can be right.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ptjax.tasks import metrics
from ptjax.tasks.base import Example, Row, Task, label_index

_BOLD = re.compile('</?b>')


@dataclasses.dataclass(frozen=True)
class MultiRC(Task):
  """One example an answer; exact match is told over a question's answers."""

  labels: tuple[str, ...] = ('False', 'True')
  init_words: tuple[str, ...] = ('False', 'True')
  metric_names: tuple[str, ...] = ('f1a', 'em')
  prefix: bool = False

  def convert(self, row: Row, number: int, *, split: str) -> Iterator[Example]:
    where = self.where(split, number)
    for answer in self._answers(row, number, where):
      label = label_index(answer['label'], self.labels, where=where)
      text = (
        f'{"multirc " if self.prefix else ""}question: {answer["question"]} '
        f'answer: {answer["answer"]} paragraph: {answer["paragraph"]}'
      )
      idx = answer['idx']
      yield Example(
        # Over the whole text, as the reference has it.
        _BOLD.sub('', text.replace('<br>', ' ')),
        '' if label is None else self.labels[label],
        self.labels,
        {
          'idx': idx,
          'label': label,
          'group': (idx['paragraph'], idx['question']),
        },
      )

  def _answers(
    self, row: Row, number: int, where: str
  ) -> Iterator[dict[str, Any]]:
    """The row as the hub has it, one for each answer."""
    if 'paragraph' in row:
      for key in ('question', 'answer'):
        self.field(row, key, where=where)
      idx = self.field(row, 'idx', where=where)
      for key in ('paragraph', 'question', 'answer'):
        self.field(idx, key, where=f'{where}, idx,', kind=int)
      yield {**row, 'label': row.get('label')}
      return
    passage, questions = self._passage(row, where)
    text = self.field(passage, 'text', where=f'{where}, passage,', kind=str)
    for q, question in enumerate(questions):
      inside = f'{where}, question {q},'
      asked = self.field(question, 'question', where=inside)
      answers = self.field(question, 'answers', where=inside, kind=list)
      for a, answer in enumerate(answers):
        yield {
          'paragraph': text,
          'question': asked,
          'answer': self.field(answer, 'text', where=f'{inside} answer {a},'),
          'label': answer.get('label'),
          'idx': {
            'paragraph': row.get('idx', number),
            'question': question.get('idx', q),
            'answer': answer.get('idx', a),
          },
        }

  def _passage(self, row: Row, where: str) -> tuple[Row, list[Row]]:
    """The original's passage and the questions in it."""
    passage = self.field(row, 'passage', where=where)
    where = f'{where}, passage,'
    return passage, self.field(passage, 'questions', where=where, kind=list)

  def measure(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> dict[str, float]:
    targets = [e.meta['label'] for e in examples]
    found = [self.index(p) for p in predictions]
    groups = [e.meta['group'] for e in examples]
    return {
      'f1a': metrics.f1(targets, found),
      'em': metrics.group_exact_match(targets, found, groups=groups),
    }

  def units(self, rows: Sequence[Row]) -> list[Row]:
    """One question with its answers, as FewGLUE counts."""
    out: list[Row] = []
    flat: dict[Any, list[Row]] = {}
    for number, row in enumerate(rows):
      where = self.where('train', number)
      if 'paragraph' in row:
        (row,) = self._answers(row, number, where)
        idx = row['idx']
        flat.setdefault((idx['paragraph'], idx['question']), []).append(row)
        continue
      passage, questions = self._passage(row, where)
      for question in questions:
        out.append({**row, 'passage': {**passage, 'questions': [question]}})
    return out + [_nested(group) for group in flat.values()]


def _nested(rows: Sequence[Row]) -> Row:
  """The hub's rows of one question, as one row of the original schema."""
  idx = rows[0]['idx']
  answers = [
    {'text': r['answer'], 'label': r.get('label'), 'idx': r['idx']['answer']}
    for r in rows
  ]
  question = {
    'question': rows[0]['question'],
    'answers': answers,
    'idx': idx['question'],
  }
  passage = {'text': rows[0]['paragraph'], 'questions': [question]}
  return {'idx': idx['paragraph'], 'passage': passage}
