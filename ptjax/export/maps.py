"""A model's linear maps, as we and as its files name and size them.

Owns what an adapter of such maps needs of a model's table in `weights`. Knows
no format.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from ptjax.weights import table

_OURS, _THEIRS = '/kernel', '.weight'


@dataclasses.dataclass(frozen=True)
class Map:
  """One linear map of ours: one of theirs, or one in each layer.

  Attributes:
    scope: our slash-name, 'layers/attention/query'.
    modules: their names, in the order of layers.
    stack: (N,) if ours lie in one array; else ().
    inputs: I.
    features: O, one axis or several.
    turned: whether their file has it as [I, O], as GPT-2's does.
  """

  scope: str
  modules: tuple[str, ...]
  stack: tuple[int, ...]
  inputs: int
  features: tuple[int, ...]
  turned: bool

  @property
  def outputs(self) -> int:
    """O in one axis."""
    return math.prod(self.features)

  def shape(self, port: str, *, rank: int = 0) -> tuple[int, ...]:
    """Of one layer's port; see `models.ports`."""
    return {
      'lora_a': (self.inputs, rank),
      'lora_b': (rank, *self.features),
      'scale': self.features,
      'scale_in': (self.inputs,),
    }[port]


def of(rows: Iterable[table.Tensor]) -> list[Map]:
  """The linear maps among a model's tensors."""
  return [_map(row) for row in rows if row.path.endswith(_OURS)]


def _map(row: table.Tensor) -> Map:
  inputs, *features = row.own_shape()[1 if row.layers else 0 :]
  return Map(
    scope=row.path.removesuffix(_OURS),
    modules=tuple(name.removesuffix(_THEIRS) for name in row.names()),
    stack=(row.layers,) if row.layers else (),
    inputs=inputs,
    features=tuple(features),
    turned=not row.transpose,
  )


def ends(chosen: Sequence[Map], every: Sequence[Map]) -> list[str]:
  """The shortest ends of names that these maps have and no other has.

  All names of a map that has no such end.
  """
  wanted = {module for map_ in chosen for module in map_.modules}
  known = [module for map_ in every for module in map_.modules]
  out: set[str] = set()
  for map_ in chosen:
    parts = map_.modules[0].split('.')
    # An end that all layers have holds no layer's number.
    tails = ('.'.join(parts[i:]) for i in reversed(range(len(parts))))
    shared = (t for t in tails if all(ends_in(m, t) for m in map_.modules))
    alone = (t for t in shared if {m for m in known if ends_in(m, t)} <= wanted)
    out |= set([end] if (end := next(alone, '')) else map_.modules)
  return sorted(out)


def ends_in(module: str, end: str) -> bool:
  """Whether a name ends in these whole parts."""
  return f'.{module}'.endswith(f'.{end}')
