"""The folder of a run: who may write in it, and its JSON files.

Owns config.json, results.json and the lock. A folder belongs to one
configuration for ever; no run overwrites another's files.
"""

import contextlib
import datetime
import fcntl
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from ptjax import files
from ptjax.config import UserError

# What may differ between the runs that share a folder: it changes no number.
FREE = (
  'wandb',
  'tensorboard',
  'mode',
  'compiled',
  'train.in_flight',
  'population.memory',
  'neighbours',
  # To rounding: a run goes on on other devices than it began on.
  'cpu',
  'mesh.data',
  'mesh.fsdp',
  'mesh.tensor',
  'distributed.coordinator',
  'distributed.processes',
  'distributed.process',
  'distributed.timeout',
)


# What a run leaves from its first step on.
_LEFT = ('checkpoints', 'results.json', 'prompts', 'predictions')


def fresh(name: str, *, root: pathlib.Path) -> pathlib.Path:
  """A new dated folder, such as runs/2026-11-21-093000-superglue."""
  stamp = datetime.datetime.now().strftime('%Y-%m-%d-%H%M%S')
  for suffix in ('', *(f'-{i}' for i in range(2, 1000))):
    path = root / f'{stamp}-{name}{suffix}'
    try:
      path.mkdir(parents=True)
      return path
    except FileExistsError:
      continue
    except OSError as error:
      raise UserError(
        f'{root}, where a run goes without --workdir, cannot be written: '
        f'{error.strerror}'
      ) from None
  raise UserError(f'{root} has no free name for a run: name one by --workdir')


@contextlib.contextmanager
def claim(path: pathlib.Path, config: dict[str, Any]) -> Iterator[None]:
  """Holds the folder for this process and this configuration.

  Args:
    config: flat, {'train.steps': 100}. Held against the folder's config.json;
      written there if the folder is new.

  Raises:
    UserError: another process or another configuration has it, or it holds
      something else than a run.
  """
  try:
    path.mkdir(parents=True, exist_ok=True)
    _refuse_strangers(path)
    lock = open(path / '.lock', 'w')
  except OSError as error:
    raise UserError(
      f'--workdir={path} cannot be written: {error.strerror}'
    ) from None
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
      raise UserError(
        f'--workdir={path} is in use by another process; wait for it or name '
        'another folder'
      ) from None
    _hold_against(path, config)
    yield


def _refuse_strangers(path: pathlib.Path) -> None:
  others = [p.name for p in path.iterdir() if not p.name.startswith('.')]
  if others and 'config.json' not in others:
    raise UserError(
      f'--workdir={path} holds {others[0]!r} but no config.json, so it is no '
      'run; name a new folder'
    )


def _hold_against(path: pathlib.Path, config: dict[str, Any]) -> None:
  config = json.loads(json.dumps(config))  # tuples become lists, as in a file
  file = path / 'config.json'
  # A run that was refused before it began (a misnamed column) holds nothing
  # that another configuration could spoil.
  begun = any((path / name).exists() for name in _LEFT)
  if not file.exists() or not begun:
    write_json(file, config)
    return
  theirs = read_json(file)
  changed = [
    f'{key} ({theirs.get(key)!r} there, {config.get(key)!r} here)'
    for key in sorted({*theirs, *config})
    if theirs.get(key) != config.get(key) and key not in FREE
  ]
  if changed:
    raise UserError(
      f'--workdir={path} holds a run of another configuration: '
      f'{", ".join(changed[:3])}{" …" if changed[3:] else ""}; name another '
      'folder, or give that configuration'
    )


def hold_model(path: pathlib.Path, fingerprint: str) -> None:
  """Refuses to go on with another model under the same name."""
  file = path / 'results.json'
  theirs = read_json(file)['model']['fingerprint'] if file.exists() else ''
  if theirs not in ('', fingerprint):
    raise UserError(
      f'--workdir={path} holds results of another model of that name '
      f'(fingerprint {theirs[:16]} there, {fingerprint[:16]} here); name '
      'another folder, or give that model'
    )


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes aside and renames."""
  with files.replaced(path) as aside:
    aside.write_text(json.dumps(value, indent=2, allow_nan=False) + '\n')


def read_json(path: pathlib.Path) -> Any:
  try:
    return json.loads(path.read_text())
  except json.JSONDecodeError as error:
    raise UserError(f'{path} is not JSON: {error}') from None


def results(path: pathlib.Path) -> dict[str, Any]:
  """The finished tasks of the run, {} if there are none."""
  file = path / 'results.json'
  return read_json(file)['tasks'] if file.exists() else {}
