"""Rows of summarisation, question answering and translation, in one schema.

Owns the layouts their files have, the public data sets that stand for them on
the hub, and the rule that nothing which chooses a prompt is reported: a split
that is missing, or is the same rows as another, is cut off. Knows no format of
text.
"""

import filecmp
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from ptjax.config import UserError
from ptjax.data import folder, held_out, hub, table

Row = dict[str, Any]
HUB = {
  'summarization': 'EdinburghNLP/xsum',
  'qa': 'rajpurkar/squad',
  'translation': 'bentrevett/multi30k',
}
# Words in the names of their folders.
_CALLED = {
  'summarization': ('summ', 'xsum'),
  'qa': ('squad', 'qa'),
  'translation': ('translation', 'multi30k'),
}
_ENDING = r'\.(jsonl|ndjson|json|csv|tsv|parquet)(\.gz)?$'
_ENGLISH = re.compile(r'\.en(\.gz)?$')  # beside it .de, line by line
_MOST = 500  # rows cut off for dev
_TEST_SEED = 0  # a test split is the same one for every seed

# What a document and its summary are called in public files.
_SUMMARIES = (
  ('document', 'summary'),
  ('article', 'highlights'),
  ('dialogue', 'summary'),
  ('input', 'output'),
)


def rows(source: str, task: str, split: str, *, seed: int) -> list[Row]:
  """Rows of a task's split: `document` and `summary`; `context`, `question`
  and `answers`; `en` and `de`; and `idx` where the file has an id.

  Args:
    source: a folder, see `folder.find`; 'hub' for the data set of HUB or
      'hub:OWNER/NAME' for another. Folders hold train, dev and test files:
      tables with the fields above or their usual names, SQuAD's nested JSON,
      open Natural Questions with their passages, Natural Instructions; for
      translation also TRAIN.en beside TRAIN.de, a sentence a line.
    task: a name of HUB.
    split: train, dev or test; see `remarks`.

  Raises:
    UserError: with what there is instead.
  """
  splits, _ = _splits(source, task)
  if split == 'test':
    return splits['test']()
  if 'dev' in splits:
    return splits[split]()
  return _cut(splits['train'](), seed=seed)[split == 'dev']


def remarks(source: str, task: str, *, seed: int) -> list[str]:
  """Sentences about splits that are not as the files have them."""
  splits, said = _splits(source, task)
  if 'dev' not in splits:
    said = [*said, f'dev is cut off train by seed {seed}, no text in both']
  return said


Splits = dict[str, Callable[[], list[Row]]]


def _splits(source: str, task: str) -> tuple[Splits, list[str]]:
  """({split: reads its rows}, sentences); train and test are always there."""
  if source == 'miniature':
    raise UserError(
      f'data=miniature: the miniature has no {task}; name a folder, hub or '
      'hub:OWNER/NAME'
    )
  if name := hub.asked(source, HUB[task]):
    splits, said = _of_hub(name, task), []
  else:
    splits, said = _of_folder(source, task)
  if 'train' not in splits:
    raise UserError(
      f'data={source!r} has no train split of {task}; it has '
      f'{", ".join(splits) or "none"}'
    )
  if 'test' not in splits:
    if 'dev' not in splits:
      raise UserError(
        f'data={source!r} has a train split of {task} alone; it needs a dev or '
        'a test split too'
      )
    splits['test'] = splits.pop('dev')
    said.append('test is what the data set calls dev')
  return splits, said


def _of_hub(name: str, task: str) -> Splits:
  name, _, config = name.partition(':')

  def reader(split: str) -> Callable[[], list[Row]]:
    return lambda: list(
      _read(hub.rows(name, config=config or None, split=split), task, name)
    )

  there = hub.splits(name, config=config or None)
  return {s: reader(s) for s in ('train', 'dev', 'test') if s in there}


def _of_folder(source: str, task: str) -> tuple[Splits, list[str]]:
  path = folder.find(
    source,
    f'{task} ({", ".join(_CALLED[task])})',
    called=_CALLED[task],
    holds=lambda path: bool(_files(path, task)),
  )
  files = _files(path, task)
  if len(files) == 1 and not folder.split_of(files[0]):
    return _thirds(files[0], task)
  splits, said, chosen = {}, [], {}
  for split in ('train', 'dev', 'test'):
    found = [p for p in files if folder.split_of(p) == split]
    if found:
      chosen[split] = found[0]
      splits[split] = _reader(found[0], task)
    if len(found) > 1:
      said.append(f'{split} is {found[0].name}, the first of {len(found)}')
  if {'dev', 'test'} <= set(chosen) and _same(chosen['dev'], chosen['test']):
    del splits['dev']
    said.append(
      f'{chosen["dev"].name} and {chosen["test"].name} are the same rows; they '
      'are test'
    )
  return splits, said


def _same(one: pathlib.Path, other: pathlib.Path) -> bool:
  return filecmp.cmp(one, other, shallow=False)


def _thirds(path: pathlib.Path, task: str) -> tuple[Splits, list[str]]:
  """A file that is alone: a tenth of it is test, the rest is train."""

  def half(which: int) -> list[Row]:
    return _cut(_reader(path, task)(), seed=_TEST_SEED)[which]

  said = [f'test is cut off {path.name}, no text in two splits']
  return {'train': lambda: half(0), 'test': lambda: half(1)}, said


def _cut(found: list[Row], *, seed: int) -> tuple[list[Row], list[Row]]:
  """(kept, cut off): about a tenth, at most _MOST, by the text it is about."""
  count = max(1, min(_MOST, len(found) // 10))
  return held_out.grouped(found, count, seed=seed, group=_about)


def _about(row: Row) -> str:
  keys = ('title', 'context', 'document', 'en')
  return str(next((row[k] for k in keys if k in row), row))


def _files(path: pathlib.Path, task: str) -> list[pathlib.Path]:
  """Files with a split each, or the one file with all; of pairs the first."""
  found = list(folder.inside(path, _ENDING))
  if task == 'translation':
    found += folder.inside(path, _ENGLISH.pattern)
  named = [p for p in found if folder.split_of(p)]
  return named or (found if len(found) == 1 else [])


def _reader(path: pathlib.Path, task: str) -> Callable[[], list[Row]]:
  if task == 'translation' and _ENGLISH.search(path.name):
    return lambda: _pairs(path)
  return lambda: list(_read(table.read(path), task, str(path)))


def _pairs(path: pathlib.Path) -> list[Row]:
  """Line i of one file is the translation of line i of the other."""
  stem = _ENGLISH.sub('.de', path.name)
  beside = (path.with_name(name) for name in (stem, f'{stem}.gz'))
  other = next((p for p in beside if p.is_file()), None)
  if other is None:
    raise UserError(f'{path} has no {stem} beside it, its translation')
  english, german = table.lines(path), table.lines(other)
  if len(english) != len(german):
    raise UserError(
      f'{path} has {len(english)} lines and {other.name} {len(german)}; line i '
      'of one must be the translation of line i of the other'
    )
  return [{'en': en, 'de': de} for en, de in zip(english, german)]


def _read(found: list[Row], task: str, where: str) -> Iterator[Row]:
  """Rows in the task's schema; a row that has none of its forms as it is."""
  for number, row in enumerate(found):
    about = f'{where}, item {number}'
    if task == 'qa':
      yield from _questions(row, about)
    elif task == 'summarization':
      yield _summary(row)
    else:
      inner = row.get('translation')
      yield inner if isinstance(inner, dict) else row


def _summary(row: Row) -> Row:
  for text, summary in _SUMMARIES:
    if text in row:
      out = {'document': row[text]}
      if summary in row:
        out['summary'] = row[summary]
      return out | ({'idx': row['id']} if 'id' in row else {})
  return row


def _questions(row: Row, where: str) -> Iterator[Row]:
  """One row a question; of SQuAD's articles there are many in a row."""
  if 'paragraphs' not in row:
    yield _question(row)
    return
  try:
    for paragraph in row['paragraphs']:
      for question in paragraph['qas']:
        yield _question(
          {
            **question,
            'context': paragraph['context'],
            'title': row.get('title', paragraph['context']),
          }
        )
  except (KeyError, TypeError) as error:
    raise UserError(
      f"{where} is not of SQuAD's form, an article with paragraphs, their "
      f'context and qas: {error}'
    ) from None


def _question(row: Row) -> Row:
  out = {k: row[k] for k in ('title', 'context', 'question') if k in row}
  if 'context' not in row and isinstance(row.get('ctxs'), list):
    # Open Natural Questions: the passage that is marked as the right one.
    gold = [c for c in row['ctxs'] if c.get('isgold')] or row['ctxs']
    out['context'] = gold[0]['text'] if gold else ''
  if 'answers' in row:
    out['answers'] = _texts(row['answers'])
  return out | ({'idx': row['id']} if 'id' in row else {})


def _texts(answers: Any) -> Any:
  """[{'text': a}, …] and {'text': [a, …]} -> [a, …] without doubles."""
  if isinstance(answers, dict):
    answers = answers.get('text', [])
  if not isinstance(answers, list):
    return answers
  texts = [a.get('text') if isinstance(a, dict) else a for a in answers]
  return list(dict.fromkeys(texts))
