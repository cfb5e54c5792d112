"""WSC: whom does the marked pronoun mean?

Owns the form of T5: the model reads the text with its *pronoun* marked and
says the noun; whether that is the noun the row asks about decides between True
and False. Training sees only the rows whose noun is meant. There is no word to
choose from, so there is no rank classification.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from ptjax.tasks import metrics
from ptjax.tasks.base import Example, Row, Task, label_index

_DETERMINERS = frozenset(
  'a an few her his each every many much my our some that the their these '
  'this those which whose your'.split()
)
# In these two the index does not lead to the pronoun. The texts are told by
# their beginnings; what the reference makes of them, by the words around it.
_EXCEPTIONS = (
  (
    'The boy continued to whip the pony , and eventually the pony threw him '
    'over. John laughed out quite loud. "Good for him," he said. ',
    'Good for him," he said. ',
    'Good for *him* ," he said.',
  ),
  (
    'When they had eventually calmed down a bit , and had gotten home, Mr. '
    'Farley put the magic pebble in an iron safe . Some day they might want '
    'to use it , but really for now, what more could they wish for?',
    'use it , but',
    'use *it* , but',
  ),
)
# Their names have other words between them in the text, so no span is right.
_SCATTERED = ('Kamenev and Zinoviev', 'Kamenev, Zinoviev, and Stalin')


@dataclasses.dataclass(frozen=True)
class Wsc(Task):
  """Free text, scored as False or True."""

  init_words: tuple[str, ...] = ('commonsense', 'pronoun', 'resolution')
  metric_names: tuple[str, ...] = ('accuracy',)
  prefix: bool = False

  def convert(self, row: Row, number: int, *, split: str) -> Iterator[Example]:
    where = self.where(split, number)
    # The hub's rows are flat, the original's have the spans inside.
    text = self.field(row, 'text', where=where, kind=str)
    spans, inside = row, where
    if row.get('target'):
      spans, inside = row['target'], f'{where}, target,'
    label = _label(row, where)
    if split == 'train' and label == 0:
      return
    marked = mark(text, *self._span(spans, 'span2', inside))
    noun = mended(text, *self._span(spans, 'span1', inside))
    yield Example(
      ('wsc: ' if self.prefix else '') + (marked or text),
      noun,
      meta={
        'idx': row.get('idx', number),
        'label': label,
        'unmarked': marked is None,
        'unmended': noun not in text and noun not in _SCATTERED,
      },
    )

  def _span(self, spans: Row, which: str, where: str) -> tuple[str, int]:
    return tuple(
      self.field(spans, f'{which}_{key}', where=where, kind=kind)
      for key, kind in (('text', str), ('index', int))
    )

  def answers(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> list[int]:
    """0 or 1 for each answer: is it the row's noun; -1 for none."""
    return [names(p, e.targets) for p, e in zip(predictions, examples)]

  def measure(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> dict[str, float]:
    targets = [e.meta['label'] for e in examples]
    found = self.answers(predictions, examples)
    return {'accuracy': metrics.accuracy(targets, found)}

  def invalid(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> float:
    """Share ×100 of answers that name nothing."""
    found = self.answers(predictions, examples)
    return 100 * found.count(-1) / len(found) if found else 0.0

  def majority(self, examples: Sequence[Example]) -> str:
    """A word that no text has: 'False' everywhere, the commonest label.

    Training examples are all True here, so they cannot tell.
    """
    del examples
    return 'nobody-at-all'

  def units(self, rows: Sequence[Row]) -> list[Row]:
    """The rows that training sees."""
    return [r for r in rows if _label(r, 'a row of WSC') != 0]

  def remarks(self, examples: Sequence[Example]) -> list[str]:
    out = []
    for key, what in (
      ('unmarked', 'the pronoun is not in the text and stays unmarked'),
      ('unmended', 'the noun does not stand in the text'),
    ):
      rows = [e.meta['idx'] for e in examples if e.meta[key]]
      if rows:
        listed = ', '.join(map(str, rows[:5])) + (', …' if rows[5:] else '')
        out.append(f'{len(rows)} rows ({listed}): {what}')
    return out


def _label(row: Row, where: str) -> int | None:
  return label_index(row.get('label'), ('False', 'True'), where=where)


def mark(text: str, pronoun: str, index: int) -> str | None:
  """The text with '*pronoun*' for the word at `index`, counted by spaces.

  Where another word is there, the nearest one that is the pronoun but for
  case and punctuation; None if there is none.
  """
  for whole, old, new in _EXCEPTIONS:
    if text == whole:
      return text.replace(old, new)
  words, bare = text.split(' '), _bare(pronoun)
  if 0 <= index < len(words) and words[index] == pronoun:
    words[index] = f'*{pronoun}*'
    return ' '.join(words)
  places = [i for i, w in enumerate(words) if bare and _bare(w) == bare]
  if not places:
    return None
  at = min(places, key=lambda i: abs(i - index))
  found = words[at]
  start = found.lower().index(bare)
  end = start + len(bare)
  words[at] = f'{found[:start]}*{found[start:end]}*{found[end:]}'
  return ' '.join(words)


def mended(text: str, span: str, index: int) -> str:
  """A noun as its text writes it: case, full stop and line breaks.

  Args:
    index: of its first word, counted by white space.
  """
  if span in text or span in _SCATTERED or not span:
    return span
  words = text.split()
  lower = index < len(words) and words[index][:1].islower()
  first = span[0].lower() if lower else span[0].upper()
  return (first + span[1:]).rstrip('.').replace('\n', ' ')


def names(answer: str, noun: str) -> int:
  """Whether an answer is that noun: 1 or 0; -1 if it names nothing.

  One may say less than the other ('bunny', 'the fuzzy bunny'), but whose
  something is counts: 'Bob' is not "Bob's hat".
  """
  answer, noun = _clean(answer), _clean(noun)
  if not answer:
    return -1
  if ("'" in answer) != ("'" in noun):
    return 0
  words, wanted = set(answer.split(' ')), set(noun.split(' '))
  return int(words <= wanted or wanted <= words)


def _clean(text: str) -> str:
  words = text.strip().lower().split(' ')
  return ' '.join(w for w in words if w not in _DETERMINERS)


def _bare(word: str) -> str:
  return word.strip('.,;:!?"\'').lower()
