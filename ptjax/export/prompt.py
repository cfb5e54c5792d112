"""A prompt file: tuned parameters, and what they belong to.

One safetensors file holds the arrays by their slash-names and, as metadata, a
JSON record: the frozen model's name and fingerprint, the method, the task, the
step and the score. Which file a user's words mean stands in `export.names`.
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ptjax import files, tree
from ptjax.config import UserError

# RecursionError: nested JSON can claim any depth.
_UNREADABLE = (
  safetensors.SafetensorError,
  ValueError,
  OSError,
  RecursionError,
)


@dataclasses.dataclass(frozen=True)
class Prompt:
  """What was tuned, by the name that rows and tables call it.

  Attributes:
    own: parameters by nested names, {'prompt': {'encoder': [P, D]}} of a soft
      prompt.
    record: what its file says of it; {} for a bare array.
    path: where it is from, for messages.
  """

  name: str
  own: Any
  record: dict[str, Any]
  path: str

  @property
  def rows(self) -> np.ndarray:
    """The virtual tokens [P, D].

    Raises:
      UserError: as `check_soft`.
    """
    self.check_soft()
    return self.own['prompt']['encoder']

  def check_soft(self) -> None:
    """Refuses what is not virtual tokens alone, finite.

    Raises:
      UserError: with the path, and what it holds instead.
    """
    found = tree.flatten(self.own)
    if set(found) != {'prompt/encoder'}:
      raise UserError(
        f'{self.path} is no soft prompt alone: it holds {len(found)} '
        f'parameters such as {next(iter(found), "none")}; name the prompt of a '
        'soft_prompt'
      )
    rows_PxD = found['prompt/encoder']
    if rows_PxD.ndim != 2 or not rows_PxD.size:
      raise UserError(
        f'{self.path} has shape {rows_PxD.shape}, not [P, D] with P above 0'
      )
    if not np.isfinite(rows_PxD).all():
      raise UserError(f'{self.path} has values that are not finite')


def write(path: pathlib.Path, tuned: Any, record: dict[str, Any]) -> None:
  """Writes a prompt file."""
  save(path, tree.flatten(tuned), {'ptjax': record})


def save(
  path: pathlib.Path, arrays: dict[str, Any], metadata: dict[str, Any]
) -> None:
  """Writes aside and renames, so that a reader never sees half a file."""
  arrays = {k: np.asarray(v) for k, v in arrays.items()}
  texts = {key: json.dumps(value) for key, value in metadata.items()}
  try:
    with files.replaced(path) as aside:
      safetensors.numpy.save_file(arrays, aside, texts)
  except safetensors.SafetensorError as error:  # also what a full disk is
    raise OSError(f'{path} cannot be written: {error}') from None


def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """(arrays by slash-names, metadata) of a file of `save`.

  Raises:
    UserError: it is no such file.
  """
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      arrays = {key: file.get_tensor(key) for key in file.keys()}
      texts = file.metadata() or {}
    metadata = {
      key: json.loads(texts[key]) for key in ('ptjax', 'bank') if key in texts
    }
  except _UNREADABLE as error:
    raise UserError(f'{path} cannot be read as a prompt: {error}') from None
  if not all(isinstance(value, dict) for value in metadata.values()):
    metadata = {}
  if not metadata:
    raise UserError(
      f'{path} is a safetensors file but no prompt of ptjax: its metadata has '
      "no 'ptjax' entry"
    )
  return arrays, metadata


def nested(arrays: dict[str, np.ndarray]) -> Any:
  """Arrays by slash-names as the tree that `write` was given."""
  return tree.unflatten(arrays)


def check_model(
  found: Prompt, *, fingerprint: str, name: str, strict: bool = True
) -> str:
  """Refuses a prompt that was trained on another frozen model.

  Args:
    strict: False lets it pass and returns the sentence, to be said loudly.
  """
  theirs = found.record.get('model', {})
  if not isinstance(theirs, dict):
    theirs = {'name': theirs}
  if not theirs or theirs.get('fingerprint') == fingerprint:
    return ''
  sentence = (
    f'{found.path} was trained on {theirs.get("name")} (fingerprint '
    f'{str(theirs.get("fingerprint"))[:16]}), not on {name} '
    f'({fingerprint[:16]})'
  )
  if strict:
    raise UserError(
      f'the prompt {sentence}; name its model, or set any_model=true'
    )
  return sentence
