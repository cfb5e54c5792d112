"""What a model family's table says of each tensor, and the strict comparison.

Owns the shape of a table row, the interface of a file that is read, and the
± list of a file that does not fit. Knows no family and no file format.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from ptjax.config import UserError

# What weights may be kept in, by safetensors' names. Whole numbers would be
# those of a quantised model, which mean something else.
FLOATS = {
  'F64': np.dtype(np.float64),
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
}


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One parameter of ours and where its layers lie in a foreign file."""

  path: str  # ours: 'encoder/layers/mlp/wi/kernel'
  name: str  # theirs, {} for the layer: also the canonical name
  shape: tuple[int, ...]  # theirs, one layer
  layers: int = 0  # stacked on our axis 0; 0 is not stacked
  transpose: bool = False  # ours has their last axis first
  view: tuple[int, ...] = ()  # theirs with one axis cut in several, if it is

  def names(self) -> list[str]:
    """The foreign names, one a layer."""
    if not self.layers:
      return [self.name]
    return [self.name.format(layer) for layer in range(self.layers)]

  def own_shape(self) -> tuple[int, ...]:
    """The shape of our parameter."""
    shape = self.view or self.shape
    if self.transpose:
      shape = (shape[-1], *shape[:-1])
    return (self.layers, *shape) if self.layers else shape

  def to_theirs(self, layer: np.ndarray) -> np.ndarray:
    """One layer of ours as it is in the file."""
    if self.transpose:
      layer = np.moveaxis(layer, 0, -1)
    return layer.reshape(self.shape)


class Source(Protocol):
  """A foreign file or folder of files, read lazily.

  Attributes:
    far: whether an answer takes long to come and several come no later, as
      from a bucket. `read` is then called from several threads.
  """

  shapes: Mapping[str, tuple[int, ...]]
  far: bool

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    """Rows start to stop (of axis 0) of a tensor, in the file's own type."""
    ...


class View:
  """Some of a source's tensors, under other names."""

  def __init__(self, source: Source, names: Mapping[str, str]):
    self._source, self._names = source, dict(names)
    self.shapes = {new: source.shapes[old] for new, old in names.items()}
    self.far = source.far

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    return self._source.read(self._names[name], start, stop)


def same(source: Source, one: str, other: str) -> bool:
  """Whether two tensors of a file have the same values."""
  shape = source.shapes[one]
  if not shape or shape != source.shapes[other]:
    return False
  step = max(1, (1 << 20) // max(1, int(np.prod(shape[1:]))))
  for start in range(0, shape[0], step):
    stop = min(start + step, shape[0])
    rows = source.read(one, start, stop), source.read(other, start, stop)
    if not np.array_equal(*rows):
      return False
  return True


def wrong_type(name: str, kind: Any, *, where: str) -> UserError:
  """For a tensor whose type is none of FLOATS."""
  return UserError(
    f'{where}: {name} is of type {kind}; weights of type '
    f'{", ".join(FLOATS)} can be read.'
  )


def check(tensors: Iterable[Tensor], source: Source, *, where: str) -> None:
  """Raises unless the file has exactly these tensors in these shapes."""
  expected = {n: tensor.shape for tensor in tensors for n in tensor.names()}
  found = dict(source.shapes)
  missing = sorted(expected.keys() - found.keys())
  extra = sorted(found.keys() - expected.keys())
  wrong = sorted(
    n for n in expected.keys() & found.keys() if expected[n] != found[n]
  )
  if not missing and not extra and not wrong:
    return
  lines = [f'  - {name} {_text(expected[name])}' for name in missing]
  lines += [f'  + {name} {_text(found[name])}' for name in extra]
  lines += [
    f'  ± {name} is {_text(found[name])}, expected {_text(expected[name])}'
    for name in wrong
  ]
  raise UserError(
    f'{where}: the weights are not those of the model that its config '
    f'describes (- {len(missing)} missing, + {len(extra)} superfluous, '
    f'± {len(wrong)} of another shape):\n' + '\n'.join(lines)
  )


def _text(shape: tuple[int, ...]) -> str:
  return '[' + ', '.join(map(str, shape)) + ']'
