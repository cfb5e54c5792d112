"""RAFT's folders: 50 labelled tweets, test tweets whose labels it keeps.

Owns which of the labelled tweets are dev, and the join with the data set that
RAFT was cut from, which labels its test tweets for scores at home. Knows no
text format.
"""

import csv
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from ptjax.config import UserError
from ptjax.data import folder, held_out, hub, table

Row = dict[str, Any]
HUB = 'ought/raft'
_SHARE = 1 / 3  # of the labelled tweets that are dev
_LABELLED = 'complaints-data.csv'  # id, text, 0 or 1, domain; without a header
_LABELS = {'0': 'no complaint', '1': 'complaint'}


def rows(source: str, split: str, *, seed: int) -> list[Row]:
  """Rows of Twitter complaints in RAFT's own fields.

  RAFT has no dev split: a third of its labelled tweets is drawn by `seed`, as
  many of each label as its share, and is trained on by nobody.

  Args:
    source: 'miniature'; a folder with train.csv and test_unlabeled.csv, its
      own or in one called raft; 'hub' or 'hub:OWNER/NAME'.
    split: train, dev or test. Test rows have labels where complaints-data.csv
      lies beside, in the folder or in one called original.

  Raises:
    UserError: with what there is instead.
  """
  if source == 'miniature':
    from ptjax.miniature import complaints as miniature

    return miniature.rows(split)
  if split == 'test':
    return _read(source, 'test')
  halves = held_out.stratified(
    _read(source, 'train'),
    _SHARE,
    seed=seed,
    label=lambda row: row.get('Label'),
  )
  return halves[split == 'dev']


def _read(source: str, split: str) -> list[Row]:
  """Rows of a split that RAFT has."""
  if name := hub.asked(source, HUB):
    return hub.rows(name, config='twitter_complaints', split=split)
  return _of_folder(_find(source), split)


def remarks(source: str, *, seed: int) -> list[str]:
  """Sentences about what the splits are made of."""
  if source == 'miniature':
    return []
  out = [
    'dev is a third of the labelled tweets, drawn by seed '
    f'{seed}; none of it is trained on'
  ]
  if not hub.asked(source, HUB):
    original = _original(_find(source))
    if original:
      out.append(f'test labels are those of {original}, for scores here only')
  return out


def _find(source: str) -> pathlib.Path:
  return folder.find(
    source,
    'Twitter complaints (train.csv, test_unlabeled.csv)',
    called=('raft', 'twitter_complaints'),
    holds=lambda path: bool(_file(path, 'train')),
  )


def _file(path: pathlib.Path, split: str) -> pathlib.Path | None:
  files = folder.inside(path, r'\.csv(\.gz)?$')
  return next((p for p in files if folder.split_of(p) == split), None)


def _of_folder(path: pathlib.Path, split: str) -> list[Row]:
  file = _file(path, split)
  if file is None:
    raise UserError(f'{path} has no {split} split ({split}….csv)')
  found = table.read(file)
  original = _original(path) if split == 'test' else None
  return _labelled(found, original) if original else found


def _original(path: pathlib.Path) -> pathlib.Path | None:
  beside = (path, path / 'original', path.parent, path.parent / 'original')
  return next(
    (p / _LABELLED for p in beside if (p / _LABELLED).is_file()), None
  )


def _labelled(found: Sequence[Row], original: pathlib.Path) -> list[Row]:
  """Test rows with the labels of the same tweets in the original file.

  Spaces, quotes and signs were changed on the way; letters and digits with
  their case were not, and tell all tweets apart.
  """
  labels: dict[str, set[str]] = {}
  for number, (_, text, label, *_) in enumerate(_csv(original), 1):
    if label not in _LABELS:
      raise UserError(
        f'{original}, line {number} has the label {label!r}; it can be 0 or 1'
      )
    labels.setdefault(_letters(text), set()).add(_LABELS[label])
  out = []
  for number, row in enumerate(found):
    known = labels.get(_letters(row.get('Tweet text', '')), set())
    if len(known) != 1:
      raise UserError(
        f'row {number} of the test tweets has {len(known)} labels in '
        f'{original}; it is not the file that they were cut from, leave it out'
      )
    out.append({**row, 'Label': next(iter(known))})
  return out


def _csv(path: pathlib.Path) -> list[list[str]]:
  with open(path, encoding='utf-8-sig', newline='') as file:
    found = [row for row in csv.reader(file) if row]
  short = next((n for n, row in enumerate(found, 1) if len(row) < 3), None)
  if short is not None:
    raise UserError(
      f'{path}, line {short} has {len(found[short - 1])} columns; it needs '
      'id, text and label'
    )
  return found


def _letters(text: str) -> str:
  return re.sub('[^A-Za-z0-9]', '', text)
