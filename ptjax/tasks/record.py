"""ReCoRD: which entity of the passage belongs in the gap of the query?

Owns its two schemas (the original's spans inside a passage, the hub's flat
lists) and its highlights. Every mention of a right entity is a right answer.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ptjax.tasks import metrics
from ptjax.tasks.base import Example, Row, Task

# A highlight that follows an ended sentence needs no full stop.
_ENDED = re.compile(r'([.?!"\'])\n@highlight\n')


@dataclasses.dataclass(frozen=True)
class Record(Task):
  """Training has one example an answer; evaluation one a query."""

  init_words: tuple[str, ...] = (
    'commonsense',
    'reasoning',
    'reading',
    'comprehension',
  )
  metric_names: tuple[str, ...] = ('em', 'f1')
  prefix: bool = False

  def convert(self, row: Row, number: int, *, split: str) -> Iterator[Example]:
    for query in self._queries(row, number, self.where(split, number)):
      entities, answers = query['entities'], query['answers']
      passage = _ENDED.sub(r'\1 ', query['passage'])
      passage = passage.replace('\n@highlight\n', '. ')
      inputs = (
        f'{"record " if self.prefix else ""}query: {query["query"]} '
        f'entities: {", ".join(entities)} passage: {passage}'
      )
      meta = {
        'idx': query['idx'],
        'label': answers[0] if answers else None,
        'answers': answers,
        'group': (query['idx']['passage'], query['idx']['query']),
        'passage': query['passage'],
      }
      # Nobody trains on the others: evaluation asks each query once.
      targets = answers if split == 'train' else answers[:1]
      for target in targets or ('',):
        yield Example(inputs, target, entities, meta)

  def _queries(
    self, row: Row, number: int, where: str
  ) -> Iterator[dict[str, Any]]:
    if 'query' in row:
      idx = self.field(row, 'idx', where=where)
      for key in ('passage', 'query'):
        self.field(idx, key, where=f'{where}, idx,', kind=int)
      answers = row.get('answers') or []
      yield {
        'query': row['query'],
        'passage': self.field(row, 'passage', where=where, kind=str),
        'entities': self._texts(row, 'entities', where),
        'answers': self._texts({'answers': answers}, 'answers', where),
        'idx': dict(idx),
      }
      return
    passage = self.field(row, 'passage', where=where)
    inside = f'{where}, passage,'
    text = self.field(passage, 'text', where=inside, kind=str)
    spans = self.field(passage, 'entities', where=inside, kind=list)
    entities = _unique(
      self._span(text, span, f'{inside} entity {s},')
      for s, span in enumerate(spans)
    )
    for q, query in enumerate(self.field(row, 'qas', where=where, kind=list)):
      inside = f'{where}, query {q},'
      asked = self.field(query, 'query', where=inside)
      found = {'answers': query.get('answers') or []}
      answers = self.field(found, 'answers', where=inside, kind=list)
      yield {
        'query': asked,
        'passage': text,
        'entities': entities,
        'answers': _unique(
          self.field(answer, 'text', where=f'{inside} answer {a},', kind=str)
          for a, answer in enumerate(answers)
        ),
        'idx': {
          'passage': row.get('idx', number),
          'query': query.get('idx', q),
        },
      }

  def _texts(self, row: Row, key: str, where: str) -> tuple[str, ...]:
    found = self.field(row, key, where=where, kind=list)
    texts = {f'{key}[{i}]': text for i, text in enumerate(found)}
    return _unique(
      self.field(texts, place, where=where, kind=str) for place in texts
    )

  def _span(self, text: str, span: Row, where: str) -> str:
    """Both ends belong to a span."""
    first, last = (
      self.field(span, end, where=where, kind=int) for end in ('start', 'end')
    )
    return text[first : last + 1]

  def measure(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> dict[str, float]:
    # The training form repeats a query for each answer; the first counts.
    first = {}
    for prediction, example in zip(predictions, examples):
      first.setdefault(
        example.meta['group'], (example.meta['answers'], prediction)
      )
    return metrics.squad(*zip(*first.values()))

  def counted(self, examples: Sequence[Example]) -> int:
    return len({e.meta['group'] for e in examples})

  def invalid(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> float:
    """Share ×100 of answers that are no entity of their passage."""
    if not predictions:
      return 0.0
    wrong = sum(
      metrics.normalised(p) not in map(metrics.normalised, e.choices)
      for p, e in zip(predictions, examples)
    )
    return 100 * wrong / len(predictions)

  def majority_answers(
    self, train: Sequence[Example], examples: Sequence[Example]
  ) -> list[str]:
    """The entity that its passage names most often."""
    del train
    out = []
    for example in examples:
      text = example.meta['passage']
      counts = collections.Counter({e: text.count(e) for e in example.choices})
      out.append(counts.most_common(1)[0][0] if counts else '')
    return out

  def units(self, rows: Sequence[Row]) -> list[Row]:
    """One query of a passage, as FewGLUE counts."""
    out = []
    for number, row in enumerate(rows):
      if 'qas' not in row:
        out.append(row)
        continue
      where = self.where('train', number)
      for query in self.field(row, 'qas', where=where, kind=list):
        out.append({**row, 'qas': [query]})
    return out


def _unique(texts) -> tuple[str, ...]:
  return tuple(sorted(set(texts)))
