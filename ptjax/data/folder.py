"""Where in a folder the files of a task lie, and which split each is.

Owns the search: the folder itself, or the nearest one below it that is called
as the task is; files are told by the first word of their names. Reads none.
"""

import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

from ptjax import bucket, files
from ptjax.config import UserError

# First words of file names.
_WORDS = {
  'train': ('train',),
  'dev': ('dev', 'val', 'valid', 'validation'),
  'test': ('test',),
}


def find(
  source: str,
  task: str,
  *,
  called: Sequence[str],
  holds: Callable[[pathlib.Path], bool],
) -> pathlib.Path:
  """The folder with a task's files, at most two levels below `source`.

  Args:
    task: how it is called in a sentence.
    called: words one of which a folder below `source` has in its name.
    holds: whether a folder has files of the task.

  Raises:
    UserError: there is none, or several at one level.
  """
  top = bucket.copied(source)
  if not top.is_dir():
    raise UserError(
      f'data={source!r} is no folder{files.near(top, folders=True)}; it can '
      f'be hub, hub:OWNER/NAME or a folder with files of {task}'
    )
  level = [top]
  for depth in range(3):
    found = [p for p in level if holds(p)]
    if depth:
      named = [p for p in found if _has(p.name, called)]
      found = named or [p for p in found if _has(_path(p, top), called)]
    if len(found) > 1:
      raise UserError(
        f'{source} has several folders with files of {task}: '
        f'{", ".join(_path(p, top) for p in found)}; name one of them'
      )
    if found:
      return found[0]
    level = [q for p in level for q in sorted(p.iterdir()) if q.is_dir()]
  raise UserError(
    f'{source} has no files of {task}, nor has a folder in it called '
    f'{" or ".join(called)}; there is {_some(top)}'
  )


def split_of(path: pathlib.Path) -> str:
  """'train', 'dev', 'test', or '' for a file that is none of them."""
  first = re.split(r'[^a-z]', path.name.lower())[0]
  return next((s for s, words in _WORDS.items() if first in words), '')


def inside(folder: pathlib.Path, ending: str) -> Iterator[pathlib.Path]:
  """Files whose names end so (a regular expression), by name."""
  for path in sorted(folder.iterdir()):
    if path.is_file() and re.search(ending, path.name.lower()):
      yield path


def _has(name: str, words: Sequence[str]) -> bool:
  return any(word in name.lower() for word in words)


def _path(path: pathlib.Path, top: pathlib.Path) -> str:
  return str(path.relative_to(top))


def _some(folder: pathlib.Path, most: int = 8) -> str:
  names = sorted(p.name for p in folder.iterdir())
  return ', '.join(names[:most]) + (', …' if names[most:] else '') or 'nothing'
