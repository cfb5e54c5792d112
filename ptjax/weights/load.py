"""A model's name becomes a network and its frozen parameters.

Owns what a name may be, the order in which a model is read, checked, cast and
placed, and its fingerprint. Formats and families have a file each beside this.
"""

import concurrent.futures
import dataclasses
import difflib
import functools
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

import ptjax
from ptjax import bucket, files
from ptjax.config import UserError
from ptjax.weights import block, families, hf, hub, t5x, table

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}
_EMBEDDED = {
  'miniature': 'miniature/t5',
  'miniature/t5': 'miniature/t5',
  'miniature/gpt': 'miniature/gpt',
}

# The sharding of each parameter by its path; None leaves it to jax.
Shardings = Mapping[str, jax.sharding.NamedSharding] | None


@dataclasses.dataclass(frozen=True)
class Loaded:
  """A model as it came from its files."""

  model: nn.Module
  params: dict[str, Any]
  config: Any  # of the family, such as T5Config
  fingerprint: str  # of the weights in the files; see `fingerprint`
  folder: bucket.Path
  name: str


def load(
  name: str,
  *,
  dtype: str = 'float32',
  int8: bool = False,
  parameters: bool = True,
  device_put: bool = True,
  placement: Callable[[nn.Module], Shardings] | None = None,
  **overrides: Any,
) -> Loaded:
  """Reads a model, strictly.

  Args:
    name: `miniature`, `miniature/gpt`, a folder here or in a bucket (gs://),
      which has Hugging Face's layout or is a T5X checkpoint, or a name on the
      hub.
    dtype: what the parameters are kept in and computed in.
    int8: keeps linear maps of layers in eight bits, see `models.int8`.
    parameters: False leaves them out; the files are read for the fingerprint.
    device_put: False leaves numpy arrays on the host.
    placement: gives the sharding of each parameter of the network; every device
      then holds its own part only, and a process reads from the files the rows
      that its parts lie in. For the fingerprint each process also reads its
      share of the tensors once.
    **overrides: keys of config.json that win over the file, for checkpoints
      that do not say them, such as `relative_attention_max_distance`.
  """
  if dtype not in DTYPES:
    raise UserError(f'dtype is {dtype!r}; expected one of {", ".join(DTYPES)}.')
  folder = resolve(name)
  source, config = describe(folder, **overrides)
  family = families.of_config(config)
  rows = family.tensors(config)
  table.check(rows, source, where=str(folder))
  model = family.NETWORK(config, dtype=DTYPES[dtype])
  places = placement(model) if placement else None
  params: dict[str, Any] = {}
  for row in rows if parameters else ():
    for leaf in block.leaves(row, np.dtype(DTYPES[dtype]), eight=int8):
      array = _array(source, leaf, _place(places, row, leaf))
      if device_put and not places:
        # Waited for, so that one array at a time is on its way.
        array = jax.block_until_ready(jax.device_put(array))
      put(params, leaf.path, array)
  return Loaded(
    model=model,
    params=params,
    config=config,
    fingerprint=fingerprint(source, rows),
    folder=folder,
    name=str(name),
  )


def embedded(name: str) -> bool:
  """Whether a name is that of a model in the package."""
  return str(name) in _EMBEDDED


def put(params: dict[str, Any], path: str, leaf: Any) -> None:
  """Puts a parameter where its slash-name says."""
  *scopes, name = path.split('/')
  for key in scopes:
    params = params.setdefault(key, {})
  params[name] = leaf


def resolve(
  name: str, *, fetch: Callable[[str], pathlib.Path] = hub.fetch_model
) -> bucket.Path:
  """The folder of a model, fetched from the hub where that is meant."""
  name = str(name)
  if name in _EMBEDDED:
    return pathlib.Path(ptjax.__file__).parent / _EMBEDDED[name]
  path = bucket.path(name)
  if isinstance(path, bucket.Bucket):
    return path
  if path.is_dir():
    return path
  if path.exists():
    raise UserError(f'{name!r} is a file; a model is named by its folder.')
  if not re.fullmatch(r'[\w-][\w.-]*(/[\w.-]+)?', name):
    near = files.near(path, folders=True)
    raise UserError(f'There is no folder {name!r}{near or "."}')
  if near := difflib.get_close_matches(name, _EMBEDDED, n=1):
    raise UserError(
      f'There is no model {name!r}; an embedded one is {near[0]!r}.'
    )
  return fetch(name)


def describe(folder: bucket.Path, **overrides: Any) -> tuple[table.Source, Any]:
  """The family's view of the files, and the network they describe."""
  if t5x.is_checkpoint(folder):
    values = _read_settings(folder)
    source, family = t5x.Checkpoint(folder), families.of_type('t5')
    values = t5x.sizes(source, where=str(folder)) | values
  else:
    values = settings(folder)
    family = families.of_type(values['model_type'])
    source = hf.open_folder(folder)
  source, tied = family.canonical(source, where=str(folder))
  values |= overrides
  return source, family.config(values, tied=tied, where=str(folder))


def settings(folder: bucket.Path) -> dict[str, Any]:
  """A folder's config.json, of a family that can be loaded."""
  values = _read_settings(folder)
  _refuse_family(values, folder)
  return values


def _read_settings(folder: bucket.Path) -> dict[str, Any]:
  file = folder / 'config.json'
  if not file.is_file():
    return {}
  try:
    values = json.loads(file.read_text(encoding='utf-8-sig'))
  except (ValueError, RecursionError) as error:
    raise UserError(
      f'{folder}/config.json: not readable as JSON ({error}).'
    ) from None
  if not isinstance(values, dict):
    raise UserError(f'{folder}/config.json: expected an object of settings.')
  return values


def _refuse_family(values: dict[str, Any], folder: bucket.Path) -> None:
  if not values:
    raise UserError(
      f'{folder}: no config.json and no T5X checkpoint; not a model folder.'
    )
  family = values.get('model_type')
  if family not in families.MODEL_TYPES:
    raise UserError(
      f'{folder}: model_type is {family!r}; models of type '
      f'{", ".join(families.MODEL_TYPES)} can be loaded.'
    )


def _place(
  places: Shardings, row: table.Tensor, leaf: block.Leaf
) -> jax.sharding.Sharding | None:
  return placed(places[row.path] if places else None, leaf)


def placed(
  place: jax.sharding.NamedSharding | None, leaf: block.Leaf
) -> jax.sharding.NamedSharding | None:
  """Where a leaf lies whose parameter would lie there."""
  if place is None or leaf.lacks is None:
    return place
  axes = [axis for i, axis in enumerate(place.spec) if i != leaf.lacks]
  return place.update(spec=jax.sharding.PartitionSpec(*axes))


def _array(
  source: table.Source,
  leaf: block.Leaf,
  place: jax.sharding.Sharding | None,
) -> np.ndarray | jax.Array:
  shape = leaf.shape
  if place is None:
    return leaf.read(source, tuple(slice(0, n) for n in shape))

  @functools.cache  # several devices may hold the same part
  def part(*bounds: tuple[int, int]) -> np.ndarray:
    return leaf.read(source, tuple(slice(*b) for b in bounds))

  # Waited for, so that one array at a time is on its way.
  return jax.block_until_ready(
    jax.make_array_from_callback(
      shape,
      place,
      lambda index: part(*(i.indices(n)[:2] for i, n in zip(index, shape))),
    )
  )


def fingerprint(source: table.Source, rows: Iterable[table.Tensor]) -> str:
  """A hash of names, shapes and values as float32, read in small pieces.

  Each process reads its share of the tensors, and all get the same hash. Blind
  to the files' format and to a type that keeps the same values; also to what
  config.json says beside the shapes, such as the number of heads.
  """
  shapes = {name: row.shape for row in rows for name in row.names()}

  def digest(name: str) -> bytes:
    sha = hashlib.sha256(f'{name} {list(shapes[name])}'.encode())
    for start, stop in block.chunks(shapes[name], 0, shapes[name][0]):
      values = source.read(name, start, stop)
      sha.update(np.ascontiguousarray(values, '<f4').data)
    return sha.digest()

  names, count = sorted(shapes), jax.process_count()
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    mine = list(pool.map(digest, names[jax.process_index() :: count]))
  return hashlib.sha256(_of_all(mine, len(names))).hexdigest()


def _of_all(mine: list[bytes], total: int) -> bytes:
  """The digests of all processes, each of which has every so-manieth."""
  count = jax.process_count()
  if count == 1:
    return b''.join(mine)
  size = hashlib.sha256().digest_size
  padded = np.zeros((-(-total // count), size), np.uint8)
  padded[: len(mine)] = np.frombuffer(b''.join(mine), np.uint8).reshape(
    -1, size
  )
  found = multihost_utils.process_allgather(padded)
  return found.swapaxes(0, 1).reshape(-1, size)[:total].tobytes()
