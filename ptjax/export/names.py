"""The prompts that a user's words name: files, runs, banks, bare arrays.

Owns what `--prompt=A,B,…` may be. Reads through the file of each format; loads
no model.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from ptjax import bucket
from ptjax.config import UserError, nearest
from ptjax.export import bank, multitask, npy, peft, prompt
from ptjax.export.prompt import Prompt


def find(names: str, *, task: str = '') -> list[Prompt]:
  """All prompts named, in order.

  Args:
    names: joined by commas, each a prompt file, a bank, a .npy array, a
      checkpoint folder of google-research/prompt-tuning, the folder of an
      adapter of PEFT, of a run or of prompts. Of several in one place
      `PLACE:NAME` is the one called so. What lies in a bucket (gs://) is
      copied first, no more of it than is read.
    task: of runs and banks only the prompts of this task are taken; '' takes
      all. A file that is named itself is taken whatever its task.

  Raises:
    UserError: one of them is not there (none is read then), or is no prompt.
  """
  words = [w.strip() for w in names.split(',') if w.strip()]
  if pathlib.Path(names).expanduser().exists():
    words = [names]  # its name has a comma
  for word in words:
    scheme, mark, _ = word.partition('://')
    if mark and not word.startswith(bucket.SCHEME):
      raise UserError(
        f'prompt {word!r}: nothing is read from {scheme}://; copy it here, or '
        f'to {bucket.SCHEME}'
      )
  places = [_place(word) for word in words]
  missing = [w for w, p in zip(words, places) if not p.path.exists()]
  if missing:
    raise UserError(
      f'prompt {", ".join(map(repr, missing))}: no such file or folder; give a '
      'prompt file, a bank, or the folder of a run or an adapter'
    )
  return _distinct([p for place in places for p in _called(place, task)])


def one(name: str, *, task: str = '') -> Prompt:
  """The one prompt named.

  Raises:
    UserError: there are several.
  """
  found = find(name, task=task)
  if len(found) > 1:
    raise UserError(
      f'{name} names {len(found)} prompts ({_list(found)}) where one is meant; '
      f'give one itself, as in {name}:{found[0].name}'
    )
  return found[0]


def undivided(name: str) -> Prompt:
  """A file or adapter of many tasks as it is, not cut into their prompts."""
  path = pathlib.Path(name)
  if peft.is_adapter(path):
    return peft.read(path)
  arrays, metadata = prompt.read(path)
  return Prompt(path.stem, prompt.nested(arrays), metadata['ptjax'], str(path))


def rows(name: str) -> np.ndarray:
  """The virtual tokens [P, D] of the one soft prompt named."""
  return one(name).rows


@dataclasses.dataclass(frozen=True)
class _Place:
  """Where prompts are read, the name of one of them or '', and of a copy
  where it is from."""

  path: pathlib.Path
  name: str = ''
  origin: str = ''


def _place(word: str) -> _Place:
  if word.startswith(bucket.SCHEME):
    return _place_in_bucket(word)
  path = pathlib.Path(word).expanduser()
  place, _, name = word.rpartition(':')
  inside = pathlib.Path(place).expanduser()
  if not path.exists() and place and inside.exists():
    return _Place(inside, name)
  return _Place(path)


def _place_in_bucket(word: str) -> _Place:
  place, _, name = word.rpartition(':')
  whole = bucket.parse(word)
  if name.startswith('//') or whole.is_file() or whole.below():
    place, name = word, ''
  return _Place(bucket.copied(place, _read_of), name, place.rstrip('/'))


def _read_of(ways: Sequence[str]) -> list[str]:
  """Of the files of a folder those that `_of` asks for.

  A run's checkpoints and a model's weights are not among them.
  """
  adapter = [way for way in ways if way in peft.FILES]
  run = [way for way in ways if way.startswith('prompts/')]
  config = [way for way in ways if way == 'config.json']
  return (
    adapter
    or run
    or config
    or [w for w in ways if w.endswith(('.safetensors', '.txt', npy.NAME))]
  )


def _called(place: _Place, task: str) -> list[Prompt]:
  path, name = place.path, place.name
  found = _of(path, '' if name else task)
  if place.origin:
    found = [
      dataclasses.replace(p, path=p.path.replace(str(path), place.origin))
      for p in found
    ]
  if not name:
    return found
  chosen = [p for p in found if p.name == name]
  if not chosen:
    raise UserError(
      f'{path} holds no prompt {name!r}{nearest(name, [p.name for p in found])}'
      f'; there are {_list(found)}'
    )
  return chosen


def _of(path: pathlib.Path, task: str) -> list[Prompt]:
  if peft.is_adapter(path):
    return multitask.each(peft.read(path))
  if path.is_file() and path.suffix == '.safetensors':
    found = _read(path, path.stem)
    return _of_task(path, found, task) if len(found) > 1 else found
  if (path / 'prompts').is_dir():
    return _of_task(path, _inside(path / 'prompts'), task)
  if (path / 'config.json').is_file():
    raise UserError(f'{path} is no run that holds a prompt yet')
  if path.is_dir() and any(path.rglob('*.safetensors')):
    found = _inside(path)
    # The folder of one task's members is named itself, as a file is.
    return _of_task(path, found, task) if path.name == 'prompts' else found
  own = {'prompt': {'encoder': npy.read(path)}}
  return [Prompt(path.stem, own, {}, str(path))]


def _inside(folder: pathlib.Path) -> list[Prompt]:
  """All prompts of a folder: NAME.safetensors, or NAME/0.safetensors, …"""
  files = {
    str(file.relative_to(folder).with_suffix('')): file
    for file in folder.rglob('*.safetensors')
  }
  if not files and any(folder.rglob('*.txt')):
    raise UserError(
      f'{folder.parent} is the run of a hard prompt, which is text; give what '
      f'{folder} holds as method.instruction, with method.name=hard_prompt'
    )
  if not files:
    raise UserError(f'{folder.parent} is no run that holds a prompt yet')
  ordered = sorted(files, key=_number)
  return [found for name in ordered for found in _read(files[name], name)]


def _number(name: str) -> tuple[str, int]:
  """Members are in the order of their numbers: 9 before 10."""
  head, _, last = name.rpartition('/')
  return (head, int(last)) if last.isdecimal() else (name, -1)


def _read(path: pathlib.Path, name: str) -> list[Prompt]:
  arrays, metadata = prompt.read(path)
  if 'bank' in metadata:
    return bank.open_bank(path, arrays, metadata['bank'])
  own = prompt.nested(arrays)
  return multitask.each(Prompt(name, own, metadata['ptjax'], str(path)))


def _of_task(
  path: pathlib.Path, found: Sequence[Prompt], task: str
) -> list[Prompt]:
  chosen = [p for p in found if not task or _task(p) == task]
  if not chosen:
    tasks = sorted({_task(p) for p in found})
    raise UserError(
      f'{path}: {task!r} is not among the tasks of its prompts '
      f'({", ".join(tasks)}){nearest(task, tasks)}; give the file itself'
    )
  return chosen


def _task(found: Prompt) -> str:
  return str(found.record.get('task', found.name)).rpartition('/')[-1]


def _distinct(found: Sequence[Prompt]) -> list[Prompt]:
  """Prompts of one name from several places are called by their place."""
  names = [p.name for p in found]
  return [
    Prompt(p.path, p.own, p.record, p.path) if names.count(p.name) > 1 else p
    for p in found
  ]


def _list(found: Sequence[Prompt], most: int = 8) -> str:
  names = ', '.join(p.name for p in found[:most])
  return names + (', …' if len(found) > most else '')
