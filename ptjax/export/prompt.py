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
  safetensors.numpy.save_file(arrays, aside, {'ptjax': json.dumps(record)})
  os.replace(aside, path)


def read(name: str, *, task: str = '') -> tuple[Any, dict[str, Any]]:
  """(tuned, record) of a file or a run.

  Args:
    name: a file of `write`, a run's folder, a .npy array, or a checkpoint
      folder of google-research/prompt-tuning.
    task: which of a run's prompts; may be left out if there is one.

  Raises:
    UserError: nothing there, or nothing that is a prompt.
  """
  path = pathlib.Path(name)
  if not path.exists():
    raise UserError(
      f'--prompt={name}: no such file or folder; give a prompt file, or the '
      'folder of a run'
    )
  if (path / 'prompts').is_dir():
    path = _of_run(path / 'prompts', task)
  if path.suffix != '.safetensors':
    return {'prompt': {'encoder': npy.read(path)}}, {}
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      flat = {key: file.get_tensor(key) for key in file.keys()}
      record = json.loads((file.metadata() or {}).get('ptjax', 'null'))
  except (safetensors.SafetensorError, json.JSONDecodeError) as error:
    raise UserError(f'{path} cannot be read as a prompt: {error}') from None
  if record is None:
    raise UserError(
      f'{path} is a safetensors file but no prompt of ptjax: its metadata has '
      "no 'ptjax' entry"
    )
  return tree.unflatten(flat), record


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
