"""Weight files for tests, written without the packages they come from."""

import collections
import io
import json
import pathlib
import pickle
import re
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
  packing: int | None = None,
  byteorder: bytes = b'little',
) -> None:
  """A file in torch's zip format around any object.

  Args:
    packing: compression of the storages, where it is another.
  """
  program = io.BytesIO()
  _Pickler(program, protocol=2).dump(content)
  with zipfile.ZipFile(path, 'w', compression) as archive:
    archive.writestr(f'{root}/data.pkl', program.getvalue())
    archive.writestr(f'{root}/byteorder', byteorder)
    for storage in storages:
      name = f'{root}/data/{storage.key}'
      archive.writestr(name, storage.values.tobytes(), packing)
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


_T5X = {
  'shared.weight': 'token_embedder/embedding',
  'lm_head.weight': 'decoder/logits_dense/kernel',
  'final_layer_norm.weight': '{side}_norm/scale',
  'SelfAttention.relative_attention_bias.weight': 'relpos_bias/rel_embedding',
  'encoder.0.layer_norm.weight': 'pre_attention_layer_norm/scale',
  'encoder.1.layer_norm.weight': 'pre_mlp_layer_norm/scale',
  'decoder.0.layer_norm.weight': 'pre_self_attention_layer_norm/scale',
  'decoder.1.layer_norm.weight': 'pre_cross_attention_layer_norm/scale',
  'decoder.2.layer_norm.weight': 'pre_mlp_layer_norm/scale',
}
_T5X_PARTS = {
  'encoder.SelfAttention': 'attention',
  'decoder.SelfAttention': 'self_attention',
  'decoder.EncDecAttention': 'encoder_decoder_attention',
  'q': 'query',
  'k': 'key',
  'v': 'value',
  'o': 'out',
}


def t5x_name(name: str) -> str:
  """What T5X calls a tensor of a Hugging Face file."""
  if name in _T5X:
    return _T5X[name]
  side, rest = name.split('.', 1)
  if rest in _T5X:
    return f'{side}/{_T5X[rest].format(side=side)}'
  layer, number, rest = re.fullmatch(
    r'block\.(\d+)\.layer\.(\d)\.(.*)', rest
  ).groups()
  if rest in _T5X:  # one for all layers, which the first one holds
    return f'{side}/{_T5X[rest]}'
  layer = f'{side}/layers_{layer}'
  if rest == 'layer_norm.weight':
    return f'{layer}/{_T5X[f"{side}.{number}.{rest}"]}'
  part, kernel, _ = rest.split('.')
  if part == 'DenseReluDense':
    return f'{layer}/mlp/{kernel}/kernel'
  return f'{layer}/{_T5X_PARTS[f"{side}.{part}"]}/{_T5X_PARTS[kernel]}/kernel'


def write_t5x(
  folder: pathlib.Path, tensors: dict[str, np.ndarray], *, chunk: int = 4
) -> None:
  """A T5X checkpoint: kernels in zarr, in chunks; vectors in the index."""
  import tensorstore

  content: dict[str, Any] = {}
  for name, value in tensors.items():
    path = t5x_name(name)
    if value.ndim == 2:
      if name != 'shared.weight':
        value = value.T
      spec = {
        'driver': 'zarr',
        'kvstore': {
          'driver': 'file',
          'path': str(folder / f'target.{path.replace("/", ".")}'),
        },
        'metadata': {
          'shape': value.shape,
          'chunks': [chunk, value.shape[1]],
          'dtype': '<f4',
          'fill_value': None,
          'compressor': {'id': 'gzip', 'level': 1},
        },
      }
      tensorstore.open(spec, create=True).result().write(value).result()
      value = {'driver': 'zarr'}
    *scopes, leaf = path.split('/')
    scope = content
    for key in scopes:
      scope = scope.setdefault(key, {})
    scope[leaf] = value
  write_t5x_index(folder, content)


def write_t5x_index(folder: pathlib.Path, content: dict[str, Any]) -> None:
  from flax import serialization

  whole = {'optimizer': {'target': content}, 'version': 3}
  (folder / 'checkpoint').write_bytes(serialization.msgpack_serialize(whole))


def read_t5x_index(folder: pathlib.Path) -> dict[str, Any]:
  from flax import serialization

  whole = serialization.msgpack_restore((folder / 'checkpoint').read_bytes())
  return whole['optimizer']['target']
