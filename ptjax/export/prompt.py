"""A prompt file: tuned parameters, and what they belong to.

One safetensors file holds the arrays by their slash-names and, as metadata, a
JSON record: the frozen model's name and fingerprint, the method, the task, the
step and the score. Also finds a prompt by the name a user gives it: such a
file, a run's folder, or an array of somebody else's (`export.npy`).
"""

import json
import os
import pathlib
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ptjax import tree
from ptjax.config import UserError
from ptjax.export import npy


def write(path: pathlib.Path, tuned: Any, record: dict[str, Any]) -> None:
  """Writes aside and renames, so that a reader never sees half a file."""
  arrays = {k: np.asarray(v) for k, v in tree.flatten(tuned).items()}
  aside = path.with_name(f'.{path.name}.part')
  path.parent.mkdir(parents=True, exist_ok=True)
  try:
    safetensors.numpy.save_file(arrays, aside, {'ptjax': json.dumps(record)})
    os.replace(aside, path)
  except safetensors.SafetensorError as error:  # also what a full disk is
    raise OSError(f'{path} cannot be written: {error}') from None
  finally:
    aside.unlink(missing_ok=True)


def read(name: str, *, task: str = '') -> tuple[Any, dict[str, Any]]:
  """(tuned, record) of a file or a run.

  Args:
    name: a file of `write`, a run's folder, a .npy array, or a checkpoint
      folder of google-research/prompt-tuning.
    task: which of a run's prompts; may be left out if there is one.

  Raises:
    UserError: nothing there, or nothing that is a prompt.
  """
  path = find(name, task=task)
  if path.suffix != '.safetensors':
    return {'prompt': {'encoder': npy.read(path)}}, {}
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      flat = {key: file.get_tensor(key) for key in file.keys()}
      record = json.loads((file.metadata() or {}).get('ptjax', 'null'))
  except (safetensors.SafetensorError, ValueError, OSError) as error:
    raise UserError(f'{path} cannot be read as a prompt: {error}') from None
  if not isinstance(record, dict):
    raise UserError(
      f'{path} is a safetensors file but no prompt of ptjax: its metadata has '
      "no 'ptjax' entry"
    )
  return tree.unflatten(flat), record


def find(name: str, *, task: str = '') -> pathlib.Path:
  """What `read` reads, without reading it."""
  path = pathlib.Path(name).expanduser()
  if not path.exists():
    raise UserError(
      f'prompt {name!r}: no such file or folder; give a prompt file, or the '
      'folder of a run'
    )
  if path.name == 'prompts' and path.is_dir():
    return _of_run(path, task)
  if (path / 'prompts').is_dir():
    return _of_run(path / 'prompts', task)
  if (path / 'config.json').is_file():
    raise UserError(f'{path} is no run that holds a prompt yet')
  return path


def rows(name: str) -> np.ndarray:
  """The virtual tokens [P,D] of a file or a run with one prompt."""
  found = tree.flatten(read(name)[0])
  if 'prompt/encoder' not in found:
    raise UserError(
      f'{name} holds no virtual tokens but {len(found)} parameters such as '
      f'{next(iter(found), "none")}; name the prompt of a soft_prompt'
    )
  return found['prompt/encoder']


def _of_run(folder: pathlib.Path, task: str) -> pathlib.Path:
  files = sorted(folder.glob('*.safetensors'))
  chosen = [f for f in files if f.stem == task] if task else files
  if len(chosen) == 1:
    return chosen[0]
  names = ', '.join(f.stem for f in files) or 'none yet'
  wanted = f'{task!r} is not among' if task else 'name one of'
  raise UserError(
    f'{folder.parent}: {wanted} its prompts ({names}); give the file itself, '
    f'such as {folder}/NAME.safetensors'
  )


def check_model(record: dict[str, Any], *, fingerprint: str, name: str) -> None:
  """Refuses a prompt that was trained on another frozen model."""
  theirs = record.get('model', {})
  if theirs and theirs.get('fingerprint') != fingerprint:
    raise UserError(
      f'the prompt was trained on {theirs.get("name")} (fingerprint '
      f'{theirs.get("fingerprint")}), not on {name} ({fingerprint}); name its '
      'model'
    )
