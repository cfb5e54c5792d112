"""Where rows come from: the miniature, folders, the hub, files of your own.

Owns which place a word names, how SuperGLUE's folders are laid out (those of
other families have files of their own here), and the few-shot draw. Rows are
plain dictionaries; what they mean is the task's.
"""

import pathlib
import random
from collections.abc import Sequence
from typing import Any, TypeVar

from ptjax import bucket, files
from ptjax.config import UserError, nearest, one_of
from ptjax.data import generation, hub, raft, table

SPLITS = ('train', 'dev', 'test')
SUPERGLUE_HUB = 'aps/super_glue'
# File names of a split, the first found is taken.
_STEMS = {
  'train': ('train', 'train32'),
  'dev': ('val', 'dev', 'validation', 'dev32'),
  'test': ('test',),
}
# The diagnostics have one file, named as its folder.
_DIAGNOSTICS = ('axb', 'axg')

Row = dict[str, Any]
T = TypeVar('T')


def rows(config: Any, task: str, split: str) -> list[Row]:
  """Rows of a task's split, from the place that the configuration names.

  Args:
    config: with `data` and `seed`, which draws a dev split where there is
      none; and `custom.train` and so on for a task of your own.
    task: full name, such as 'superglue/boolq' or 'custom/NAME'.
    split: train, dev or test.

  Raises:
    UserError: with what there is instead.
  """
  one_of('split', split, SPLITS)
  family, _, name = task.partition('/')
  if family == 'raft':
    return raft.rows(config.data, split, seed=config.seed)
  if family == 'generation':
    return generation.rows(config.data, name, split, seed=config.seed)
  if family != 'custom':
    return superglue(config.data, task, split)
  own = config.custom
  # Nothing is kept apart for a report: the set that chose the prompt is it.
  name = own[split] or (own['dev'] if split == 'test' else '')
  if not name:
    raise UserError(
      f'custom.{split} is empty; it names a file or hub:OWNER/NAME:SPLIT'
    )
  return read(name)


def remarks(config: Any, task: str) -> list[str]:
  """Sentences about splits that are not as the data set's files have them."""
  family, _, name = task.partition('/')
  if family == 'raft':
    return raft.remarks(config.data, seed=config.seed)
  if family == 'generation':
    return generation.remarks(config.data, name, seed=config.seed)
  return []


def superglue(source: str, task: str, split: str) -> list[Row]:
  """Rows of a SuperGLUE task in the schema of its original files.

  Args:
    source: 'miniature'; a folder, also in a bucket (gs://), with
      BoolQ/val.jsonl and so on; 'hub' for
      SuperGLUE's repository or 'hub:OWNER/NAME' for one of that form, whose
      tables are flat.
    task: 'superglue/boolq' or 'boolq'.
    split: train, dev or test.

  Raises:
    UserError: with what there is instead.
  """
  one_of('split', split, SPLITS)
  task = task.rpartition('/')[-1]
  if source == 'miniature':
    # It makes its rows, which takes time: not before they are asked for.
    from ptjax.miniature import superglue as miniature

    return miniature.rows(task, split)
  if name := hub.asked(source, SUPERGLUE_HUB):
    return hub.rows(name, config=task, split=split)
  return list(table.jsonl(_file(bucket.copied(source), task, split)))


def read(source: str) -> list[Row]:
  """Rows of your own: a file, or 'hub:OWNER/NAME[:CONFIG]:SPLIT'.

  Files are JSON lines, JSON, CSV, TSV or Parquet by their ending, the text
  ones also with .gz behind it. They may lie in a bucket (gs://).

  Raises:
    UserError: with what there is instead.
  """
  if not source.startswith('hub:'):
    return table.read(bucket.copied(source))
  parts = source.split(':')[1:]
  if len(parts) not in (2, 3) or not all(parts):
    raise UserError(
      f'{source!r} is not of the form hub:OWNER/NAME:SPLIT or '
      'hub:OWNER/NAME:CONFIG:SPLIT'
    )
  config = parts[1] if len(parts) == 3 else None
  return hub.rows(parts[0], config=config, split=parts[-1])


def few_shot(items: Sequence[T], shots: int, *, seed: int) -> list[T]:
  """`shots` items, every set of them equally likely, in their old order.

  Not balanced over classes: the paper's few examples are what a draw gives.
  Draw from `Task.units(rows)`, which is what a shot is.

  Raises:
    UserError: there are fewer.
  """
  if shots < 1 or shots > len(items):
    raise UserError(
      f'shots={shots} must be between 1 and the {len(items)} there are'
    )
  draw = random.Random(f'few_shot/{seed}').sample(range(len(items)), shots)
  return [items[i] for i in sorted(draw)]


def _file(folder: pathlib.Path, task: str, split: str) -> pathlib.Path:
  """The file of a split, whatever the case of its names."""
  if not folder.is_dir():
    near = files.near(folder, folders=True)
    raise UserError(
      f'data={str(folder)!r} is no folder{near}; it can be miniature, hub, '
      "hub:OWNER/NAME or a folder of SuperGLUE's files"
    )
  inside = {_plain(p.name): p for p in folder.iterdir() if p.is_dir()}
  if task not in inside:
    there = ', '.join(sorted(p.name for p in inside.values()))
    raise UserError(
      f'{folder} has no folder for {task}{nearest(task, inside)}; it has '
      f'{there or "no folders"}'
    )
  found = {
    p.stem.lower(): p
    for p in sorted(inside[task].iterdir())
    if p.suffix.lower() == '.jsonl'
  }
  stems = _STEMS[split]
  if task in _DIAGNOSTICS and split == 'test':
    stems = (*stems, *(s for s in found if _plain(s) == task))
  for stem in stems:
    if stem in found:
      return found[stem]
  there = ', '.join(p.name for p in found.values())
  raise UserError(
    f'{inside[task]} has no {split} split ({stems[0]}.jsonl); it has '
    f'{there or "no .jsonl files"}'
  )


def _plain(name: str) -> str:
  """'AX-b' -> 'axb'."""
  return name.lower().replace('-', '').replace('_', '')
