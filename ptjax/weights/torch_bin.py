"""torch's `.bin` files (zip format), by a reader that builds tensors only.

The pickle inside such a file is a program. This reader knows the few names
that describe tensors; any other name ends the reading, with
nothing executed. Owns that, and reading slices of the storages. No torch.
"""

import collections
import io
import math
import pathlib
import pickle
import pickletools
import zipfile
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ptjax.config import UserError
from ptjax.weights import table

_STORAGES = {
  'DoubleStorage': np.float64,
  'FloatStorage': np.float32,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ShortStorage': np.int16,
  'CharStorage': np.int8,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
}
_PROGRAM = 1 << 24  # bytes of the list of tensors; T5-XXL's is below 1 << 20


# Named tuples: a program has no way to change one after it was checked.
class _Storage(NamedTuple):
  """A run of values in the archive; `offset` is where it lies in the file."""

  dtype: np.dtype
  offset: int
  size: int


class _Tensor(NamedTuple):
  """A view of a storage, in values, as torch strides it."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class TorchBin:
  """One .bin file, of which only what is asked for is read."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    self._tensors = _describe(path)
    self.shapes = {name: t.shape for name, t in self._tensors.items()}
    self.far = False

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    tensor = self._tensors[name]
    dtype = tensor.storage.dtype
    if dtype not in table.FLOATS.values():
      raise table.wrong_type(name, dtype, where=self.path)
    shape, strides = tensor.shape, tensor.strides
    first = tensor.offset
    if shape:
      first += start * strides[0]
      shape = (stop - start, *shape[1:])
    # From the first value to the last: more than the rows where the tensor is
    # a transposed view, and exactly the rows where it is not.
    span = 1 + sum((n - 1) * step for n, step in zip(shape, strides))
    span = 0 if 0 in shape else span
    offset = tensor.storage.offset + first * dtype.itemsize
    values = np.fromfile(self.path, dtype, count=span, offset=offset)
    if values.size != span:
      raise UserError(f'{self.path}: the file ends within {name}.')
    steps = [step * dtype.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(values, shape, steps)


def _describe(path: pathlib.Path) -> dict[str, _Tensor]:
  try:
    with zipfile.ZipFile(path) as archive:
      members = {info.filename: info for info in archive.infolist()}
      found = [name for name in members if name.endswith('/data.pkl')]
      if len(found) != 1:
        raise UserError(f'{path}: a zip file, but not one that torch wrote.')
      root = found[0].removesuffix('data.pkl')
      order = members.get(root + 'byteorder')
      if order and _small(archive, order, path) != b'little':
        raise UserError(f'{path}: written on a big-endian machine.')
      program = _small(archive, members[found[0]], path)
  except (zipfile.BadZipFile, RuntimeError):  # the second: unknown to zipfile
    raise UserError(
      f'{path}: not in the zip format of torch 1.6 and later, or cut short; '
      'fetch it again, or save it anew with a current torch.'
    ) from None
  reader = _Unpickler(program, path, root, members)
  try:
    _check_places(program)
    content = reader.load()
  except UserError:
    raise
  except Exception as error:
    raise UserError(
      f'{path}: its list of tensors cannot be read '
      f'({type(error).__name__}: {error}).'
    ) from None
  if not isinstance(content, dict):
    raise UserError(f'{path}: holds a {type(content).__name__}, not weights.')
  for name, value in content.items():
    if not isinstance(name, str):
      kind = type(name).__name__
      raise UserError(f'{path}: has a name of type {kind}; not a state dict.')
    if not isinstance(value, _Tensor):
      raise UserError(f'{path}: {name!r} is no tensor; not a state dict.')
  return content


def _small(
  archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: pathlib.Path
) -> bytes:
  """A member's bytes; a small file does not unfold into a large one."""
  if not _as_it_is(info) or info.file_size > _PROGRAM:
    raise UserError(
      f'{path}: {info.filename} is compressed, encrypted or larger than any '
      'that torch writes; save it anew with a current torch.'
    )
  return archive.read(info)


def _as_it_is(info: zipfile.ZipInfo) -> bool:
  """Whether a member lies in the file neither compressed nor encrypted."""
  return info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1


def _check_places(program: bytes) -> None:
  """What is kept for later has a number, and room is made for all below it."""
  for operation, argument, _ in pickletools.genops(program):
    if operation.name in _PUTS and argument > len(program):
      raise ValueError(f'a place numbered {argument}')


_PUTS = ('PUT', 'BINPUT', 'LONG_BINPUT')


class _Unpickler(pickle.Unpickler):
  """Runs the program with an allow-list of names, all of them ours."""

  def __init__(
    self,
    program: bytes,
    path: pathlib.Path,
    root: str,
    members: dict[str, zipfile.ZipInfo],
  ):
    super().__init__(io.BytesIO(program))
    self._path, self._root, self._members = path, root, members

  def find_class(self, module: str, name: str) -> Any:
    if module == 'torch' and name in _STORAGES:
      return name
    # Fresh functions, so that a program that sets attributes on them changes
    # nothing that outlives the reading.
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return lambda *args: _tensor(*args[:4])
    if (module, name) == ('torch._utils', '_rebuild_parameter'):
      return lambda data, *args: data
    if (module, name) == ('collections', 'OrderedDict'):
      return lambda *args: collections.OrderedDict(*args)
    raise UserError(
      f'{self._path}: refused. It names {module}.{name}, and a file of weights '
      'has no need of it; nothing was executed. Use a safetensors file '
      'instead.'
    )

  def persistent_load(self, pid: Any) -> _Storage:
    *words, _, size = pid
    # Before anything is spelt out: a short program makes a long tuple.
    if len(words) != 3 or not all(isinstance(word, str) for word in words):
      raise ValueError('a persistent id that is not of words')
    kind, type_name, key = words
    if kind != 'storage' or type_name not in _STORAGES:
      raise ValueError(f'unknown persistent id {kind!r}')
    dtype = np.dtype(_STORAGES[type_name])
    info = self._members[f'{self._root}data/{key}']
    if not _as_it_is(info):
      raise ValueError(f'storage {key} is compressed or encrypted')
    if not isinstance(size, int) or size * dtype.itemsize > info.file_size:
      raise ValueError(f'storage {key} is shorter than it says')
    return _Storage(dtype, _data_offset(self._path, info), size)


def _data_offset(path: pathlib.Path, info: zipfile.ZipInfo) -> int:
  """Where a member's bytes begin: behind its local header of 30 + x bytes."""
  with path.open('rb') as file:
    file.seek(info.header_offset)
    header = file.read(30)
  if header[:4] != b'PK\x03\x04':
    raise ValueError('no local header where the archive says')
  names = int.from_bytes(header[26:28], 'little')
  extra = int.from_bytes(header[28:30], 'little')
  return info.header_offset + 30 + names + extra


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
  """Checked, so that no read ever leaves the storage."""
  if not isinstance(storage, _Storage) or len(shape) != len(strides):
    raise ValueError('not a tensor')
  shape, strides = tuple(shape), tuple(strides)
  numbers = (offset, *shape, *strides)
  if any(type(n) is not int or n < 0 for n in numbers):
    raise ValueError('sizes and strides are whole numbers from 0')
  last = offset + sum((n - 1) * step for n, step in zip(shape, strides))
  if math.prod(shape) and last >= storage.size:
    raise ValueError('a tensor leaves its storage')
  return _Tensor(storage, offset, shape, strides)
