"""One array as the file that `torch.save` writes of a tensor.

Such a file is a zip archive whose list of tensors is a pickle, and there is no
other form that the programs that want one read. The pickle written here is a
fixed one: it names two functions, torch's own for a tensor and an ordered
dictionary, and two numbers, so that `torch.load(weights_only=True)` takes it.
Owns writing; nothing of the kind is read.
"""

import os
import pathlib
import zipfile
from typing import Any, BinaryIO

import numpy as np

from ptjax import files

# As torch spells a contiguous float32 tensor [rows, columns], with the sizes
# left out: rebuild(('storage', FloatStorage, '0', 'cpu', size), 0, (rows,
# columns), (columns, 1), False, OrderedDict()).
_BEFORE = (
  b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(('
  b'X\x07\x00\x00\x00storagectorch\nFloatStorage\n'
  b'X\x01\x00\x00\x000X\x03\x00\x00\x00cpu'
)
_STORED, _NUMBER = b'tQK\x00', b'J'  # a persistent id; an int of four bytes
_AFTER = b'\x89ccollections\nOrderedDict\n)RtR.'


def write(path: str | os.PathLike, array_PxD: Any) -> pathlib.Path:
  """Writes float32 [P, D] aside and renames; returns the path."""
  path = pathlib.Path(path)
  with files.replaced(path) as aside, open(aside, 'wb') as file:
    dump(array_PxD, file)
  return path


def dump(array_PxD: Any, file: BinaryIO) -> None:
  """Writes the bytes of the file of float32 [P, D]."""
  array = np.ascontiguousarray(array_PxD, '<f4')
  rows, columns = array.shape
  program = b''.join(
    (
      *(_BEFORE, _int(array.size), _STORED),
      *(_int(rows), _int(columns), b'\x86', _int(columns), b'K\x01\x86'),
      _AFTER,
    )
  )
  with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:
    # A day of its own, so that the same array makes the same bytes.
    for name, content in (
      ('data.pkl', program),
      ('byteorder', b'little'),
      ('data/0', array.tobytes()),
      ('version', b'3\n'),
    ):
      archive.writestr(zipfile.ZipInfo(f'archive/{name}'), content)


def _int(number: int) -> bytes:
  return _NUMBER + number.to_bytes(4, 'little', signed=True)
