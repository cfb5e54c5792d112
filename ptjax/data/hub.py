"""Rows of a data set on the hub, through `datasets`.

Owns the names that the hub gives to splits and one sentence for each way to
miss. Repositories hold tables (Parquet, JSON lines, CSV); one with a script is
refused, by `datasets` itself, which has run none since 4.0. HF_ENDPOINT,
HF_HOME and HF_HUB_OFFLINE are the client's own.
"""

import os
from typing import Any

from ptjax.config import UserError, nearest

Row = dict[str, Any]
_SPLITS = {'dev': 'validation'}


def asked(source: str, usual: str) -> str | None:
  """The repository that `data` names; None where it names a place of its own.

  Args:
    source: 'hub' for the usual one, 'hub:OWNER/NAME', or anything else.
  """
  word, _, name = source.partition(':')
  return (name or usual) if word == 'hub' else None


def rows(name: str, *, config: str | None, split: str) -> list[Row]:
  """All rows of a split.

  Args:
    name: 'OWNER/NAME'.
    config: the data set's subset; None for its only one.
    split: as the hub calls it; 'dev' is its 'validation'.

  Raises:
    UserError: no such repository, subset or split, or no hub in reach.
  """
  found = _load(name, config)
  split = _SPLITS.get(split, split)
  if split not in found:
    raise UserError(
      f'hub:{name} has no split {split!r}{nearest(split, found)}; it has '
      f'{", ".join(found)}'
    )
  return found[split].to_list()


def splits(name: str, *, config: str | None) -> list[str]:
  """The splits of a repository, 'validation' as 'dev'; raises as `rows`."""
  ours = {theirs: split for split, theirs in _SPLITS.items()}
  return [ours.get(split, split) for split in _load(name, config)]


def _load(name: str, config: str | None) -> Any:
  try:
    import datasets
  except ImportError:
    raise UserError(
      f'hub:{name} needs the package datasets; pip install datasets'
    ) from None
  try:
    return datasets.load_dataset(name, config)
  # The client raises a dozen kinds from four libraries; all are of the user's
  # world (a name, a network, a file), and this is the only call to it.
  except Exception as error:
    raise UserError(_sentence(name, config, error)) from error


def _sentence(name: str, config: str | None, error: Exception) -> str:
  kind, lines = type(error).__name__, str(error).strip().split('\n')
  first = lines[0]
  where = os.environ.get('HF_ENDPOINT', 'https://huggingface.co')
  if 'offline' in first.lower() or 'Offline' in kind:
    return (
      f'hub:{name} is not on this machine and HF_HUB_OFFLINE is set; unset it, '
      'or give a folder'
    )
  if kind == 'DatasetNotFoundError':
    return (
      f'hub:{name}: {where} has no such data set, or it is private; its name '
      'is OWNER/NAME as in its address'
    )
  if 'BuilderConfig' in first or 'onfig name is missing' in first:
    return f'hub:{name} has no subset {config!r}: {" ".join(lines[:2])}'
  if isinstance(error, ConnectionError) or 'onnect' in kind + first:
    return f'hub:{name}: {where} cannot be reached ({first})'
  return f'hub:{name} cannot be read: {kind}: {first}'
