"""Weight files for tests, written without the packages they come from."""

import collections
import io
import json
import pathlib
import pickle
import struct
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

_NAMES = {
  np.dtype(np.float32): ('F32', 'FloatStorage'),
  np.dtype(np.float16): ('F16', 'HalfStorage'),
  np.dtype(np.float64): ('F64', 'DoubleStorage'),
  np.dtype(ml_dtypes.bfloat16): ('BF16', 'BFloat16Storage'),
  np.dtype(np.int64): ('I64', 'LongStorage'),
}


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  """By the published package, so that reader and test do not share a fault."""
  import safetensors.numpy

  return {n: t.copy() for n, t in safetensors.numpy.load_file(path).items()}


def write_safetensors(
  path: pathlib.Path, tensors: dict[str, np.ndarray]
) -> None:
  header, blocks, end = {}, [], 0
  for name, tensor in tensors.items():
    block = np.ascontiguousarray(tensor).tobytes()
    header[name] = {
      'dtype': _NAMES[tensor.dtype][0],
      'shape': list(tensor.shape),
      'data_offsets': [end, end + len(block)],
    }
    blocks.append(block)
    end += len(block)
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(text)) + text + b''.join(blocks))


class Global:
  """Pickles as a name to be called or just looked up."""

  def __init__(self, module: str, name: str):
    self.module, self.name = module, name


class Call:
  """Pickles as function(*arguments), and then optionally a state."""

  def __init__(self, function: Global, *arguments: Any, state: Any = None):
    self.function, self.arguments, self.state = function, arguments, state


class Storage:
  """Pickles as a persistent id, as torch does; `size` may lie."""

  def __init__(self, values: np.ndarray, key: str, size: int | None = None):
    self.values, self.key = values, key
    self.size = values.size if size is None else size


class _Pickler(pickle._Pickler):
  """Python's own pickler with the three things above."""

  def save(self, value: Any, save_persistent_id: bool = True) -> None:
    if isinstance(value, Global):
      text = f'c{value.module}\n{value.name}\n'
      self.write(text.encode())
    elif isinstance(value, Call):
      self.save(value.function)
      self.save(tuple(value.arguments))
      self.write(pickle.REDUCE)
      if value.state is not None:
        self.save(value.state)
        self.write(pickle.BUILD)
    elif isinstance(value, Storage):
      kind = Global('torch', _NAMES[value.values.dtype][1])
      self.save(('storage', kind, value.key, 'cpu', value.size))
      self.write(pickle.BINPERSID)
    else:
      super().save(value, save_persistent_id)


REBUILD = Global('torch._utils', '_rebuild_tensor_v2')


def tensor(
  storage: Storage,
  shape: tuple[int, ...],
  strides: tuple[int, ...] | None = None,
  *,
  offset: int = 0,
  state: Any = None,
) -> Call:
  """A view of a storage; contiguous if no strides are given."""
  if strides is None:
    strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
  hooks = Call(Global('collections', 'OrderedDict'))
  arguments = storage, offset, tuple(shape), strides, False, hooks
  return Call(REBUILD, *arguments, state=state)


def write_program(
  path: pathlib.Path,
  content: Any,
  storages: tuple[Storage, ...] = (),
  *,
  root: str = 'archive',
  compression: int = zipfile.ZIP_STORED,
  byteorder: bytes = b'little',
) -> None:
  """A file in torch's zip format around any object."""
  program = io.BytesIO()
  _Pickler(program, protocol=2).dump(content)
  with zipfile.ZipFile(path, 'w', compression) as archive:
    archive.writestr(f'{root}/data.pkl', program.getvalue())
    archive.writestr(f'{root}/byteorder', byteorder)
    for storage in storages:
      archive.writestr(f'{root}/data/{storage.key}', storage.values.tobytes())
    archive.writestr(f'{root}/version', b'3\n')


def write_bin(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
  storages = {
    name: Storage(np.ascontiguousarray(t).ravel(), str(i))
    for i, (name, t) in enumerate(tensors.items())
  }
  content = {n: tensor(storages[n], t.shape) for n, t in tensors.items()}
  write_program(path, content, tuple(storages.values()))


def write_sharded(
  folder: pathlib.Path,
  tensors: dict[str, np.ndarray],
  *,
  kind: str,
  shards: int,
) -> None:
  """Shards and their index, as the hub has them."""
  stem = {'safetensors': 'model', 'bin': 'pytorch_model'}[kind]
  write = {'safetensors': write_safetensors, 'bin': write_bin}[kind]
  parts: dict[str, dict] = collections.defaultdict(dict)
  weight_map = {}
  for i, (name, value) in enumerate(tensors.items()):
    file = f'{stem}-{i % shards + 1:05}-of-{shards:05}.{kind}'
    parts[file][name] = value
    weight_map[name] = file
  for file, part in parts.items():
    write(folder / file, part)
  index = {'metadata': {'total_size': 0}, 'weight_map': weight_map}
  (folder / f'{stem}.{kind}.index.json').write_text(json.dumps(index))
