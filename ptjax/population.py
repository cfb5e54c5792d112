"""The members of a population: prompts trained side by side.

Owns the grid of what differs between them, and how their batches are put
together. Knows neither how a member is trained nor what it scores.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ptjax import config as config_lib
from ptjax.config import UserError

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Member:
  """One prompt's run. Alone it is the run of that seed, lr and method.init."""

  seed: int
  lr: float
  init: str


def members(config: Any) -> tuple[Member, ...]:
  """The grid seeds × lr × init, the last varying fastest.

  Raises:
    UserError: it multiplies to nothing, or has a member twice.
  """
  config = config_lib.resolved(config)
  grid = config.population
  if grid.seeds < 1:
    raise UserError(
      f'population.seeds={grid.seeds} makes no member; set it to 1 or more'
    )
  # jax.random.key reads 32 bits: 2**32 would be seed 0 again.
  if not 0 <= config.seed < 2**32 - grid.seeds:
    raise UserError(f'seed={config.seed} must be in [0, {2**32 - grid.seeds})')
  if not config.optimizer.lr > 0:
    raise UserError(f'optimizer.lr={config.optimizer.lr} must be above 0')
  rates = _axis('population.lr', grid.lr) or (config.optimizer.lr,)
  inits = _axis('population.init', grid.init) or (config.method.init,)
  for lr in rates:
    if isinstance(lr, str) or not lr > 0:
      raise UserError(f'population.lr has {lr!r}; rates must be above 0')
  return tuple(
    Member(config.seed + i, float(lr), str(init))
    for i, lr, init in itertools.product(range(grid.seeds), rates, inits)
  )


def _axis(key: str, values: Sequence[Any]) -> tuple[Any, ...]:
  twice = [v for i, v in enumerate(values) if v in values[:i]]
  if twice:
    raise UserError(
      f'{key}={tuple(values)} has {twice[0]!r} twice, which would train the '
      'same member twice; members that differ in seed alone are '
      'population.seeds'
    )
  return tuple(values)


def varying(found: Sequence[Member]) -> tuple[str, ...]:
  """The names of the fields in which members differ."""
  names = [field.name for field in dataclasses.fields(Member)]
  return tuple(n for n in names if len({getattr(m, n) for m in found}) > 1)


def stack(streams: Sequence[Iterator[Batch]]) -> Iterator[Batch]:
  """Members' batches of one step as one, with the member axis in front.

  Members may meet rows of another length at a step: all are padded to the
  longest, behind, where the masks are False.
  """
  for batches in zip(*streams):
    longest = max(b['inputs'].shape[1] for b in batches)
    yield {
      key: np.stack([_pad(batch[key], key, longest) for batch in batches])
      for key in batches[0]
    }


def _pad(array: np.ndarray, key: str, length: int) -> np.ndarray:
  if key not in ('inputs', 'input_mask'):
    return array
  return np.pad(array, [(0, 0), (0, length - array.shape[1])])
