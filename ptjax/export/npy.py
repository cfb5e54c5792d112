"""Soft prompts as bare arrays: .npy, and google-research/prompt-tuning's files.

Owns those two layouts. A bare array says nothing of its model; what does is
`export.prompt`. Pickled arrays are refused: reading one can run any code.
"""

import os
import pathlib
import re
import zipfile
from typing import Any

import numpy as np

from ptjax import files
from ptjax.config import UserError

# The array as .npy without the suffix, under a folder for each step.
_STEPS, _STEP, NAME = (
  'numpy_checkpoints',
  re.compile(r'checkpoint_(\d+)'),
  'encoder.prompt.prompt.prompt',
)

# MemoryError: a torn header can claim any shape.
_UNREADABLE = (
  ValueError,
  EOFError,
  OSError,
  MemoryError,
  zipfile.BadZipFile,
)


def write(path: str | os.PathLike, prompt_PxD: Any) -> pathlib.Path:
  """Writes float32 [P,D] aside and renames; returns the path, as given."""
  path = pathlib.Path(path)
  array = np.asarray(prompt_PxD, np.float32)
  _check(array, path, width=0)
  with files.replaced(path) as aside, open(aside, 'wb') as file:
    # np.save would add a suffix to a name.
    np.save(file, array, allow_pickle=False)
  return path


def write_step(
  folder: str | os.PathLike, prompt_PxD: Any, *, step: int
) -> pathlib.Path:
  """The file that google-research/prompt-tuning would write under `folder`."""
  path = pathlib.Path(folder) / _STEPS / f'checkpoint_{step}' / NAME
  return write(path, prompt_PxD)


def read(name: str | os.PathLike, *, width: int = 0) -> np.ndarray:
  """A prompt as float32 [P,D].

  Args:
    name: an array file, whatever its suffix; or a folder of
      google-research/prompt-tuning: a step's, or one that holds steps, of
      which the last is taken.
    width: D of the model it is for; 0 = any.

  Raises:
    UserError: no such file, pickled, not two-dimensional, of another width,
      not of numbers.
  """
  path = _find(pathlib.Path(name))
  try:
    array = np.load(path, allow_pickle=False)
  except _UNREADABLE as error:
    pickled = 'pickle' in str(error) and _is_npy(path)
    reason = (
      'it holds pickled objects, which could run any code'
      if pickled
      else 'it is no array file (.npy), or not whole'
    )
    raise UserError(
      f'{path} cannot be read as a prompt: {reason}; write it by numpy.save as '
      'a float32 array of shape (length, width)'
    ) from None
  if not isinstance(array, np.ndarray):
    raise UserError(
      f'{path} holds several arrays (.npz); save the one that is the prompt '
      'as .npy'
    )
  if array.dtype.kind != 'f':
    raise UserError(
      f'{path} holds {array.dtype}, but a prompt is of floating-point numbers'
    )
  array = array.astype(np.float32)
  _check(array, path, width=width)
  return array


def _find(path: pathlib.Path) -> pathlib.Path:
  if path.is_file():
    return path
  if not path.exists():
    raise UserError(f'{path}: no such file or folder; name a prompt file')
  if (path / NAME).is_file():
    return path / NAME
  steps = {}
  for folder in (path / _STEPS, path):
    for found in folder.glob(f'checkpoint_*/{NAME}'):
      match = _STEP.fullmatch(found.parent.name)
      if match:
        steps[int(match[1])] = found
  if not steps:
    raise UserError(
      f'{path} holds no prompt: neither {NAME} nor '
      f'{_STEPS}/checkpoint_STEP/{NAME}; name a prompt file'
    )
  return steps[max(steps)]


def _is_npy(path: pathlib.Path) -> bool:
  with open(path, 'rb') as file:
    return file.read(6) == b'\x93NUMPY'


def _check(array: np.ndarray, path: pathlib.Path, *, width: int) -> None:
  needed = f'(length, {width or "width"})'
  if array.ndim != 2 or 0 in array.shape or width not in (0, array.shape[1]):
    raise UserError(
      f'{path} has shape {array.shape}, but a prompt of this model has '
      f'{needed}; name another file'
    )
  if not np.isfinite(array).all():
    raise UserError(f'{path} holds values that are not finite')
