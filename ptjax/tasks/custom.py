"""Your own task without code: a template, an answer field, metric names.

Owns what a template may say and how label values become words. A template
names fields and does nothing else: no attribute, index, format or conversion.
Knows no file; rows are flat dictionaries.
"""

import dataclasses
import math
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ptjax.config import UserError, nearest, one_of
from ptjax.tasks import metrics
from ptjax.tasks.base import Example, Row, Task


@dataclasses.dataclass(frozen=True)
class Custom(Task):
  """Text by template; the answer a label word or the field's own text.

  Attributes:
    parts: (text, field after it or None) of the template, in order.
    target: field that holds the answer.
    values: what stands in the field for each label word.
  """

  parts: tuple[tuple[str, str | None], ...] = ()
  target: str = ''
  values: tuple[str, ...] = ()

  def convert(self, row: Row, number: int, *, split: str) -> Iterator[Example]:
    where = self.where(split, number)
    inputs = ''.join(
      text + (_text(self.field(row, name, where=where)) if name else '')
      for text, name in self.parts
    )
    # It goes into predictions as JSON.
    idx = row['idx'] if isinstance(row.get('idx'), (int, str)) else number
    if split != 'test':
      self.field(row, self.target, where=where)
    value = row.get(self.target)
    if self._missing(value):
      yield Example(inputs, '', self.labels, {'idx': idx, 'label': None})
      return
    if self.labels:
      label = self._label(value, where)
      word = self.labels[label]
      yield Example(inputs, word, self.labels, {'idx': idx, 'label': label})
      return
    answers = _answers(value)
    if set(self.metric_names) & set(metrics.OF_NUMBERS):
      _number(answers[0], where)
    meta = {'idx': idx, 'label': answers[0], 'answers': answers}
    yield Example(inputs, answers[0], meta=meta)

  def _missing(self, value: Any) -> bool:
    """Whether there is no answer: nothing, or the -1 of test files.

    Unless -1 is a label's value or word, or numbers are what is measured.
    """
    if value != value or not _answers(value):  # NaN is what a gap becomes
      return True
    if _text(value).strip().removesuffix('.0') != '-1':
      return False
    declared = '-1' in (*self.values, *self.labels)
    return not declared and not set(self.metric_names) & set(metrics.OF_NUMBERS)

  def _label(self, value: Any, where: str) -> int:
    text = _text(value).strip()
    # A file may hold the values or already the words; 1.0 is what a column
    # with gaps makes of 1.
    forms = [text, text.lower(), text.removesuffix('.0')]
    if isinstance(value, bool):
      forms.append(str(int(value)))
    for names in (self.values, self.labels):
      for form in forms:
        if form in names:
          return names.index(form)
    raise UserError(
      f'{where} has {value!r} in {self.target!r}; the labels are '
      + ', '.join(f'{v}:{w}' for v, w in zip(self.values, self.labels))
    )

  def measure(
    self, predictions: Sequence[str], examples: Sequence[Example]
  ) -> dict[str, float]:
    out: dict[str, float] = {}
    for name in self.metric_names:
      found = self._measure(name, predictions, examples)
      out.update(found if isinstance(found, dict) else {name: found})
    return out

  def _measure(
    self, name: str, predictions: Sequence[str], examples: Sequence[Example]
  ) -> float | dict[str, float]:
    if name in metrics.OF_NUMBERS:
      targets = [_number(e.targets, self.name) for e in examples]
      # An answer that is no number is -1, as in T5's similarity task.
      found = [_float(p, -1.0) for p in predictions]
      return metrics.OF_NUMBERS[name](targets, found)
    if name in metrics.OF_ANSWERS:
      accepted = [e.meta.get('answers', (e.targets,)) for e in examples]
      return metrics.OF_ANSWERS[name](accepted, predictions)
    if not self.labels:
      # Any of several answers is right.
      right = [p in e.meta['answers'] for p, e in zip(predictions, examples)]
      return metrics.OF_TEXT[name]([True] * len(right), right)
    if name == 'exact_match':
      return metrics.accuracy([e.targets for e in examples], predictions)
    targets = [e.meta['label'] for e in examples]
    found = [self.index(p) for p in predictions]
    if name == 'macro_f1':
      return metrics.macro_f1(targets, found, classes=len(self.labels))
    return metrics.OF_LABELS[name](targets, found)


def task(
  name: str = '',
  *,
  template: str,
  target: str,
  labels: Mapping[Any, str] | Sequence[Any] = (),
  metric_names: Sequence[str] = ('accuracy',),
) -> Custom:
  """A task from words.

  Args:
    name: how results call it.
    template: the input, with {field} where a row's field goes; {{ and }} are
      braces.
    target: field of the answer; a list of answers is allowed in free text.
    labels: {value of the field: word}, or words for the values 0, 1, …, or
      'value:word' each; () for free text.
    metric_names: of `tasks.metrics`; f1 takes the second label as positive.

  Raises:
    UserError: the template is broken, or a metric does not fit the labels.
  """
  if not target:
    raise UserError('custom.target is empty; it names the field of the answer')
  values, words = _labels(labels)
  metric_names = tuple(metric_names)
  _check_metrics(metric_names, words)
  return Custom(
    f'custom/{name or "task"}',
    labels=words,
    init_words=words,
    metric_names=metric_names,
    parts=_parse(template),
    target=target,
    values=values,
  )


def _parse(template: str) -> tuple[tuple[str, str | None], ...]:
  about = f'custom.template={template!r}'
  try:
    parts = list(string.Formatter().parse(template))
  except ValueError as error:
    raise UserError(
      f'{about}: {error}; write {{{{ and }}}} for braces themselves'
    ) from None
  for _, name, form, conversion in parts:
    if name == '':
      raise UserError(f'{about}: braces must name a field, as in {{text}}')
    if form or conversion:
      raise UserError(
        f'{about}: {{{name}…}} must be the name of a field and nothing else'
      )
  if not any(name for _, name, _, _ in parts):
    raise UserError(f'{about} names no field, as in {{text}}')
  return tuple((text, name) for text, name, _, _ in parts)


def _labels(labels: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """(values, words)."""
  if isinstance(labels, Mapping):
    pairs = [(_text(v).strip(), str(w).strip()) for v, w in labels.items()]
  else:
    texts = [_text(label).strip() for label in labels]
    with_value = [':' in text for text in texts]
    if any(with_value) and not all(with_value):
      raise UserError(
        f'custom.labels={", ".join(texts)}: either all of them or none are '
        'written value:word'
      )
    if any(with_value):
      halves = [text.partition(':') for text in texts]
      pairs = [(v.strip(), w.strip()) for v, _, w in halves]
    else:
      pairs = [(str(i), text) for i, text in enumerate(texts)]
      _refuse_ambiguous(pairs)
  values, words = zip(*pairs) if pairs else ((), ())
  for what, found in (('value', values), ('word', words)):
    double = next((f for f in found if found.count(f) > 1), None)
    if double is not None:
      raise UserError(f'custom.labels has the {what} {double!r} twice')
  if len(words) == 1 or '' in words:
    raise UserError(
      f'custom.labels={words!r}: it takes two words or more, none empty'
    )
  return values, words


def _refuse_ambiguous(pairs: Sequence[tuple[str, str]]) -> None:
  """Refuses words that in a file would be read as another word's value."""
  word_of = dict(pairs)
  for value, word in pairs:
    number = {'false': '0', 'true': '1'}.get(word.lower(), word)
    number = number.removesuffix('.0')
    if number in word_of and number != value:
      way_out = ','.join(f'{w}:{w}' for _, w in pairs)
      raise UserError(
        f'custom.labels: {word!r} is a word, but as a value it would mean '
        f'{word_of[number]!r}; write value:word, such as '
        f'custom.labels=({way_out})'
      )


def _check_metrics(names: Sequence[str], words: Sequence[str]) -> None:
  fitting = {**metrics.OF_TEXT, **metrics.OF_NUMBERS}
  if words:
    fitting = {**metrics.OF_LABELS, 'exact_match': None, 'squad': None}
  known = {**metrics.OF_LABELS, **metrics.OF_TEXT, **metrics.OF_NUMBERS}
  if not names:
    raise UserError(f'custom.metrics is empty; it can be {", ".join(fitting)}')
  for name in names:
    one_of('custom.metrics', name, tuple(known))
    if name not in fitting:
      need = 'no custom.labels' if words else 'custom.labels'
      raise UserError(
        f'custom.metrics={name!r} is for a task with {need}'
        f'{nearest(name, fitting)}; here it can be {", ".join(fitting)}'
      )
    metrics.check(name)
  if 'f1' in names and len(words) != 2:
    raise UserError(
      f"custom.metrics='f1' is for two labels, not {len(words)}; "
      'macro_f1 takes any number'
    )
  if 'f1' in names and 'squad' in names:
    raise UserError('custom.metrics: squad has an f1 of its own; drop one')


def _text(value: Any) -> str:
  if isinstance(value, (list, tuple)):
    return ', '.join(map(_text, value))
  return '' if value is None else str(value)


def _answers(value: Any) -> tuple[str, ...]:
  """The texts of a field that holds one or a list; as predictions, stripped."""
  values = value if isinstance(value, (list, tuple)) else [value]
  texts = (_text(v).strip() for v in values)
  return tuple(text for text in texts if text)


def _float(text: str, default: float) -> float:
  try:
    value = float(text)
  except ValueError:
    return default
  return value if math.isfinite(value) else default


def _number(text: str, where: str) -> float:
  value = _float(text, math.nan)
  if math.isnan(value):
    raise UserError(f'{where} has the answer {text!r}, which is no number')
  return value
