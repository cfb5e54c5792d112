"""Folders in Hugging Face's layout: which files, and safetensors itself.

Owns finding the weight files of a folder, their index, and reading slices of a
safetensors file without the rest of it. Knows no model: names and shapes only.
"""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ptjax import bucket
from ptjax.config import UserError
from ptjax.weights import table, torch_bin

# In the order of preference.
SINGLE = ('model.safetensors', 'pytorch_model.bin')
INDEX = tuple(f'{name}.index.json' for name in SINGLE)
# Of a header, in bytes; the published reader has the same.
_LONGEST = 100_000_000


class Safetensors:
  """One safetensors file, of which only what is asked for is read."""

  def __init__(self, path: bucket.Path):
    self.path, self.far = path, isinstance(path, bucket.Bucket)
    self._entries, self._begin = _header(path)
    self.shapes = {
      name: tuple(entry['shape']) for name, entry in self._entries.items()
    }

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    entry, shape = self._entries[name], self.shapes[name]
    dtype = table.FLOATS.get(entry['dtype'])
    if dtype is None:
      raise table.wrong_type(name, entry['dtype'], where=self.path)
    row = math.prod(shape[1:])
    first, last = entry['data_offsets']
    if last - first != math.prod(shape) * dtype.itemsize:
      raise UserError(f'{self.path}: {name} has not the bytes of its shape.')
    offset = self._begin + first + start * row * dtype.itemsize
    count = (stop - start) * row
    rows = bucket.values(self.path, dtype, count=count, offset=offset)
    if rows.size != count:
      raise UserError(f'{self.path}: the file ends within {name}.')
    return rows.reshape(stop - start, *shape[1:])


def _header(path: bucket.Path) -> tuple[dict[str, Any], int]:
  """Entries by name, and where the data begins."""
  begin = 8 + int.from_bytes(bucket.part(path, 0, 8), 'little')
  text = bucket.part(path, 8, begin) if 8 < begin <= _LONGEST else b''
  if not text or len(text) < begin - 8:
    raise UserError(f'{path}: not a whole safetensors file; fetch it again.')
  try:
    entries = json.loads(text)
    entries.pop('__metadata__', None)
    end = begin + max(map(_whole, entries.values()), default=0)
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    raise UserError(
      f'{path}: its header is not that of a safetensors file; fetch it again.'
    ) from None
  if not bucket.part(path, end - 1, end):
    raise UserError(
      f'{path}: the file ends before its last tensor does, at byte {end}; '
      'fetch it again.'
    )
  return entries, begin


def _whole(entry: dict[str, Any]) -> int:
  """Where an entry ends; one of a few errors if it is not as it should be."""
  first, last = entry['data_offsets']
  sizes = (first, last, *entry['shape'])
  if any(type(n) is not int or n < 0 for n in sizes) or first > last:
    raise ValueError(entry)
  if not isinstance(entry['dtype'], str):
    raise TypeError(entry)
  return last


class Folder:
  """All weight files of a folder as one source."""

  def __init__(self, parts: Mapping[str, table.Source]):
    self._parts = dict(parts)
    self.shapes = {name: part.shapes[name] for name, part in parts.items()}
    self.far = any(part.far for part in parts.values())

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    return self._parts[name].read(name, start, stop)


def open_folder(folder: bucket.Path) -> table.Source:
  """The weights of a folder: safetensors before .bin, one file or several."""
  for single, index in zip(SINGLE, INDEX):
    if (folder / single).is_file():
      return _open(folder / single)
    if (folder / index).is_file():
      return _open_index(folder, index)
  raise UserError(
    f'{folder}: no weights there; expected {" or ".join(SINGLE)}, or an index '
    f'such as {INDEX[0]}.'
  )


def shards(index: bucket.Path) -> dict[str, str]:
  """File name by tensor name, as an index says it."""
  try:
    files = json.loads(index.read_text())['weight_map']
    names = [pathlib.PurePath(file).name for file in files.values()]
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    raise UserError(f'{index}: not an index of weight files.') from None
  if names != list(files.values()):
    raise UserError(f'{index}: names a file outside of its folder.')
  return files


def _open_index(folder: bucket.Path, index: str) -> Folder:
  files = shards(folder / index)
  missing = [f for f in sorted(set(files.values())) if not _is_file(folder, f)]
  if missing:
    raise UserError(
      f'{folder}: {index} names {", ".join(missing)}, not there; fetch again.'
    )
  opened = {file: _open(folder / file) for file in sorted(set(files.values()))}
  lost = sorted(n for n, file in files.items() if n not in opened[file].shapes)
  if lost:
    raise UserError(
      f'{folder}: {index} promises {lost[0]} (of {len(lost)}) in '
      f'{files[lost[0]]}, which does not hold it.'
    )
  # What the index does not list is there, too, for the table to refuse.
  parts = {n: part for part in opened.values() for n in part.shapes}
  return Folder(parts | {n: opened[file] for n, file in files.items()})


def _is_file(folder: bucket.Path, name: str) -> bool:
  return (folder / name).is_file()


def _open(path: bucket.Path) -> table.Source:
  if path.suffix == '.safetensors':
    return Safetensors(path)
  if isinstance(path, bucket.Bucket):
    raise UserError(
      f'{path}: of torch files none is read from a bucket; copy the folder '
      'here (gcloud storage cp -r), or save the model as safetensors'
    )
  return torch_bin.TorchBin(path)
