"""Our parameters as a folder that transformers loads.

Owns writing config.json and model.safetensors, tensor by tensor. Knows the
tables of the model families, not who trained the parameters.
"""

import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np

from ptjax import files
from ptjax.weights import families, table

_DTYPES = {
  'float32': (np.dtype(np.float32), 'F32'),
  'bfloat16': (np.dtype(ml_dtypes.bfloat16), 'BF16'),
}


def save(
  folder: str | pathlib.Path,
  params: Mapping[str, Any],
  config: Any,
  *,
  dtype: str = 'float32',
) -> None:
  """Writes a model in Hugging Face's layout; no tokenizer."""
  folder = pathlib.Path(folder)
  family = families.of_config(config)
  rows = family.tensors(config)
  arrays = {row.path: _leaf(params, row.path) for row in rows}
  for row in rows:
    if arrays[row.path].shape != row.own_shape():
      raise ValueError(
        f'{row.path} is {arrays[row.path].shape}, expected {row.own_shape()}'
      )
  _write_safetensors(folder / 'model.safetensors', rows, arrays, dtype)
  text = json.dumps(family.to_json(config, dtype=dtype), indent=2)
  with files.replaced(folder / 'config.json', sync=True) as aside:
    aside.write_text(text + '\n')


def _leaf(params: Mapping[str, Any], path: str) -> jax.Array:
  leaf: Any = params
  for key in path.split('/'):
    leaf = leaf[key]
  return leaf


def _write_safetensors(
  path: pathlib.Path,
  rows: list[table.Tensor],
  arrays: Mapping[str, jax.Array],
  dtype: str,
) -> None:
  numpy_dtype, name = _DTYPES[dtype]
  # transformers refuses a file that does not say where it comes from.
  header: dict[str, Any] = {'__metadata__': {'format': 'pt'}}
  end = 0
  for row in rows:
    for tensor in row.names():
      begin, end = end, end + math.prod(row.shape) * numpy_dtype.itemsize
      header[tensor] = {
        'dtype': name,
        'shape': list(row.shape),
        'data_offsets': [begin, end],
      }
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)

  def blocks() -> Iterator[bytes]:
    yield len(text).to_bytes(8, 'little') + text
    for row in rows:
      array = np.asarray(arrays[row.path])
      for layer in array if row.layers else [array]:
        layer = row.to_theirs(layer)
        yield np.ascontiguousarray(layer.astype(numpy_dtype)).tobytes()

  with files.replaced(path, sync=True) as aside, aside.open('wb') as file:
    file.writelines(blocks())
