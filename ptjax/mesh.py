"""Where arrays lie: the mesh of devices and what is cut along which axis.

Owns the mesh axes and the one table that maps the logical names of parameters'
axes to them. Frozen weights are cut by that table, batches by rows; what trains
and what the optimizer keeps lies whole on every device. Knows no model, method
or file, and models know nothing of it.

  data    rows of a batch; weights are held whole
  fsdp    rows of a batch; weights are cut too, and gathered where they are used
  tensor  heads, mlp and vocabulary; each device computes its part of a layer
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ptjax.config import UserError

Tree = Any

AXES = ('data', 'fsdp', 'tensor')
ROWS = ('data', 'fsdp')  # what cuts a batch

# Logical axis -> mesh axes, for T5, GPT-2, GPT-NeoX and Llama alike. A mesh
# axis cuts an array once: the name that is first here has it. Other names
# (layers, kv, qkv, positions, relpos_buckets) are never cut.
RULES: dict[str, tuple[str, ...]] = {
  # Also over fsdp: rows are looked up, and logits made, where they lie, so that
  # nobody gathers the vocabulary.
  'vocab': ('tensor', 'fsdp'),
  'heads': ('tensor',),
  'joined_kv': ('tensor',),
  'mlp': ('tensor',),
  'embed': ('fsdp',),
}
# What must be cut where the mesh says so. A vocabulary need not: GPT-2's 50257
# rows divide by nothing, and then lie whole.
_NEEDED = {'tensor': ('heads', 'mlp'), 'fsdp': ('embed',)}
_STACKED = 'layers'


@dataclasses.dataclass(frozen=True)
class Layout:
  """The mesh of a run, and how each kind of array lies on it.

  With one device nothing is placed: arrays are where jax puts them.
  """

  mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh

  @property
  def platform(self) -> str:
    """cpu, gpu or tpu, as jax calls it."""
    return self.mesh.abstract_mesh.abstract_device.platform

  @property
  def row_shards(self) -> int:
    """Parts that a batch is cut in."""
    return math.prod(self.mesh.shape[axis] for axis in ROWS)

  @property
  def whole(self) -> NamedSharding | None:
    """Every device holds all of it."""
    return self._sharding() if self.mesh.size > 1 else None

  @functools.cached_property
  def share(self) -> tuple[int, int]:
    """(which, of how many) equal parts of a batch this process has to make.

    Processes whose devices hold the same rows make the same part.
    """
    by_process: dict[int, set[int]] = {}
    cut = self._sharding(ROWS).devices_indices_map((self.row_shards,))
    for device, (rows,) in cut.items():
      first = rows.start or 0
      by_process.setdefault(device.process_index, set()).add(first)
    size = len(by_process[jax.process_index()])
    for rows in by_process.values():
      first = min(rows)
      if first % size or sorted(rows) != list(range(first, first + size)):
        return 0, 1  # scattered: each makes the whole batch and takes its rows
    first = min(by_process[jax.process_index()])
    return first // size, self.row_shards // size

  def fit(self, rows: int) -> int:
    """The next number of rows that the mesh divides."""
    return -(-rows // self.row_shards) * self.row_shards

  def frozen(self, model: nn.Module) -> dict[str, NamedSharding] | None:
    """The sharding of each parameter, by slash-name; None = as jax does.

    Raises:
      UserError: the mesh does not divide the model's heads or widths.
    """
    return None if self.mesh.size == 1 else self.parts(model)

  def parts(self, model: nn.Module) -> dict[str, NamedSharding]:
    """`frozen`, also where one device holds all."""
    named = logical_axes(model)
    _check_sizes(self.mesh, named)
    return {
      path: self._sharding(*spec(axes, shape, self.mesh.shape))
      for path, (axes, shape) in named.items()
    }

  def replicate(self, tree: Tree) -> Tree:
    """The same values, whole on every device."""
    if self.mesh.size == 1:
      return tree
    return jax.tree.map(self._replicate, tree)

  def on_rows(
    self, function: Callable, *, vocab_size: int, axis: int = 0
  ) -> Callable:
    """A function of (own, frozen, batch, …) that cuts its batch first.

    Where it is traced, the model's activations are cut by `activations`.

    Args:
      vocab_size: rows of the model's embedding.
      axis: where the batch's arrays have their rows. Behind the member axis
        they are this process's share; in front, they are all there are.
    """
    if self.mesh.size == 1:
      return function
    parts = self.share[1] if axis else 1

    def placed(own: Tree, frozen: Tree, batch: Tree, *args, **kwargs):
      batch = self.rows(batch, axis, parts)
      with self.tracing(vocab_size):
        return function(own, frozen, batch, *args, **kwargs)

    return placed

  @contextlib.contextmanager
  def tracing(self, vocab_size: int) -> Iterator[None]:
    """Where a function is traced, so that its activations are cut."""
    rules = activations(vocab_size, self.mesh.shape)
    abstract = isinstance(self.mesh, jax.sharding.AbstractMesh)
    enter = jax.sharding.use_abstract_mesh if abstract else jax.set_mesh
    with enter(self.mesh), nn.logical_axis_rules(rules):
      yield

  def shapes(self, tree: Tree, *axes: Any) -> Tree:
    """Arrays without values that lie whole, or cut along `axes`."""
    sharding = self._sharding(*axes)
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )

  def rows(self, batch: Tree, axis: int = 0, parts: int = 1) -> Tree:
    """A batch cut along `axis`, of which this process made one of `parts`."""
    sharding = self._sharding(*[None] * axis, ROWS)

    def put(array: np.ndarray) -> jax.Array:
      shape = list(array.shape)
      shape[axis] *= parts
      return jax.make_array_from_process_local_data(
        sharding, np.asarray(array), tuple(shape)
      )

    return jax.tree.map(put, batch)

  def _replicate(self, array: Any) -> jax.Array:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
      return jax.device_put(array, self.whole)
    values = np.asarray(array)
    return jax.make_array_from_callback(
      values.shape, self.whole, lambda index: values[index]
    )

  def _sharding(self, *axes: Any) -> NamedSharding:
    return NamedSharding(self.mesh, P(*axes))


def make(config: Any, devices: Sequence[jax.Device] | None = None) -> Layout:
  """The mesh that `config.mesh` says.

  Args:
    devices: by default all of all processes.

  Raises:
    UserError: it does not divide the devices or a batch.
  """
  devices = jax.devices() if devices is None else devices
  shape = sizes(config.mesh, len(devices))
  mesh = jax.make_mesh(shape, AXES, _AUTO, devices=devices)
  return _checked(Layout(mesh), config)


def abstract(config: Any, count: int, *, platform: str) -> Layout:
  """`make` of devices that are not there, nor a compiler for them."""
  device = jax.sharding.AbstractDevice(
    device_kind=platform, num_cores=None, platform=platform
  )
  mesh = jax.sharding.AbstractMesh(
    sizes(config.mesh, count), AXES, _AUTO, abstract_device=device
  )
  return _checked(Layout(mesh), config)


_AUTO = (AxisType.Auto,) * len(AXES)


def _checked(layout: Layout, config: Any) -> Layout:
  for key, micro in (('train', config.train.accumulate), ('eval', 1)):
    _check_rows(
      f'{key}.batch_size', config[key].batch_size, layout.row_shards, micro
    )
  return layout


def platform() -> str:
  """What is traced for: by the mesh of `Layout.tracing`, else the default."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform


def bytes_on_one(tree: Tree) -> int:
  """What a device holds of arrays, or of their shapes with their places."""
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def bytes_of(tree: Tree) -> int:
  """What arrays, or their shapes, are in one place."""
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def sizes(settings: Mapping[str, int], devices: int) -> tuple[int, ...]:
  """`config.mesh` -> the size of each of AXES; -1 is what is left.

  Raises:
    UserError: with the sizes that would do.
  """
  said = [settings[axis] for axis in AXES]
  text = ', '.join(f'mesh.{axis}={n}' for axis, n in zip(AXES, said))
  if said.count(-1) > 1 or any(n < 1 for n in said if n != -1):
    raise UserError(
      f'{text}: sizes are from 1, and one of them may be -1, the rest'
    )
  known = math.prod(n for n in said if n != -1)
  if devices % known or (-1 not in said and known != devices):
    raise UserError(
      f'{text}: that is {known} devices'
      f'{" or a multiple" if -1 in said else ""}, but there are {devices}; '
      f'each size can be one of {_some(_divisors(devices))}, and -1 is the rest'
    )
  return tuple(devices // known if n == -1 else n for n in said)


def logical_axes(
  model: nn.Module,
) -> dict[str, tuple[tuple[str | None, ...], tuple[int, ...]]]:
  """(names, shape) of each parameter's axes; nothing is computed."""
  ids = jax.ShapeDtypeStruct((1, 4), jnp.int32)
  mask = jax.ShapeDtypeStruct((1, 4), jnp.bool_)
  inputs = (ids, mask, ids) if hasattr(model, 'encode') else (ids, mask)
  boxed = jax.eval_shape(model.init, jax.random.key(0), *inputs)['params']
  leaves, _ = jax.tree_util.tree_flatten_with_path(
    boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned)
  )
  return {
    '/'.join(key.key for key in path): (leaf.names, leaf.value.shape)
    for path, leaf in leaves
  }


def spec(
  axes: Sequence[str | None], shape: Sequence[int], mesh: Mapping[str, int]
) -> tuple[tuple[str, ...] | None, ...]:
  """The mesh axes that cut each axis of a parameter, by RULES."""
  if [name for name in axes if name != _STACKED] == ['embed']:
    return (None,) * len(shape)  # a norm or a bias: small, and used whole
  if 'vocab' in axes:
    axes = [name if name == 'vocab' else None for name in axes]
  cut: list[tuple[str, ...] | None] = [None] * len(shape)
  used: set[str] = set()
  for name in RULES:
    if name not in axes:
      continue
    place, taken = axes.index(name), []
    size = shape[place]
    for axis in RULES[name]:
      if axis not in used and mesh[axis] > 1 and size % mesh[axis] == 0:
        taken.append(axis)
        size //= mesh[axis]
    used.update(taken)
    cut[place] = tuple(taken) or None
  return tuple(cut)


def activations(
  vocab_size: int, mesh: Mapping[str, int]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
  """Logical axis -> mesh axes of what is computed.

  Weights are cut over fsdp, and so are rows; without a word for the rows the
  compiler may leave the weights where they are and gather the rows instead.
  Where x meets the vocabulary, that is what is meant.
  """
  (vocab,) = spec(('vocab',), (vocab_size,), mesh)
  at_vocab = tuple(axis for axis in ROWS if axis not in (vocab or ()))
  return (
    ('batch', ROWS),
    ('batch_at_vocab', at_vocab),
    ('vocab', vocab or ()),
  )


def _check_sizes(mesh: jax.sharding.Mesh, named: Mapping[str, Any]) -> None:
  for axis, names in _NEEDED.items():
    found = {
      (name, size)
      for axes, shape in named.values()
      for name, size in zip(axes, shape)
      if name in names
    }
    for name, size in sorted(found):
      if size % mesh.shape[axis]:
        common = math.gcd(mesh.size, *(size for _, size in found))
        raise UserError(
          f'mesh.{axis}={mesh.shape[axis]} does not divide the {size} '
          f'{_SAID[name]} of the model; on {mesh.size} devices it can be '
          f'{_some(_divisors(common))}'
        )


_SAID = {
  'heads': 'heads',
  'mlp': 'hidden units of an mlp',
  'embed': 'features of a vector',
}


def _check_rows(key: str, rows: int, shards: int, micro: int) -> None:
  each = shards * micro
  if rows % each:
    less = rows - rows % each
    wanted = f'{less} or {less + each}' if less else str(each)
    times = f' times {micro} micro-batches' if micro > 1 else ''
    raise UserError(
      f'{key}={rows} is not a multiple of {shards}{times}, the parts that '
      f'mesh.data x mesh.fsdp cut a batch in; it can be {wanted}, or make '
      'mesh.tensor larger'
    )


def _divisors(number: int) -> list[int]:
  return [n for n in range(1, number + 1) if number % n == 0]


def _some(numbers: Sequence[int]) -> str:
  return ', '.join(map(str, numbers))
