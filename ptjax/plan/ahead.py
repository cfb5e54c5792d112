"""Compiling for TPUs that are not there, by the libtpu wheel.

Owns the topology's devices, the compiler's options and environment, and what is
read out of a compiled program: memory of a device, and what devices send one
another. Knows no model and no step.
"""

import contextlib
import dataclasses
import importlib.util
import os
import re
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from ptjax.config import UserError
from ptjax.plan import hlo
from ptjax.plan.targets import Target

# What libtpu reads when it is loaded: no question to a cloud's metadata server,
# several processes at once, and no logs under /tmp.
_ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_LOG_DIR': 'disabled',
  'TPU_MIN_LOG_LEVEL': '3',
}
# Least effort: less time.
_QUICK = {
  'exec_time_optimization_effort': -1.0,
  'memory_fitting_effort': -1.0,
}
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


@dataclasses.dataclass(frozen=True)
class Compiled:
  """What a compiled program takes on one device, in bytes.

  Attributes:
    arguments: weights, state and batch.
    temporary: what is made on the way.
    peak: the most that is held at once; all of it where it did not fit.
    limit: what the compiler has of the device; 0 = it fitted and did not say.
    collectives: each place where devices send; None = the program could not
      be read, since libtpu is of another version than jax.
  """

  arguments: int
  temporary: int
  peak: int
  limit: int
  collectives: tuple[hlo.Collective, ...] | None = ()

  @property
  def sent(self) -> dict[str, hlo.Sent]:
    return hlo.summed(self.collectives or ())

  @property
  def fits(self) -> bool:
    return not self.limit


def check() -> None:
  """Refuses where the compiler is not installed.

  Raises:
    UserError: with the line that installs it.
  """
  if importlib.util.find_spec('libtpu') is None:
    raise UserError(
      'a plan for TPUs compiles with libtpu, which is not installed: '
      "pip install -e '.[plan]'"
    )


def devices(target: Target) -> list[Any]:
  """The devices of a topology, for a mesh; none of them is there.

  Raises:
    UserError: libtpu is not installed or has no such topology.
  """
  check()
  from jax.experimental import topologies

  for name, value in _ENVIRONMENT.items():
    os.environ.setdefault(name, value)
  options: dict[str, Any] = {}
  if target.chips == 1:
    options['chips_per_host_bounds'] = (1, 1, 1)
  if target.kind == 'v4':
    options['chip_config_name'] = 'megacore'  # one device a chip
  try:
    found = topologies.get_topology_desc(
      platform='tpu',
      topology_name=f'{target.kind}:{target.topology}',
      **options,
    ).devices
  except jax.errors.JaxRuntimeError as error:
    raise UserError(
      f'--target={target.name}: libtpu has no such topology '
      f'({str(error).splitlines()[0]}); sizes are those of a slice, such as '
      '2x2, 2x4 or 2x2x2'
    ) from None
  return list(found)


def compile_(
  traced: Any, *, loops: int = 1, thorough: bool = False
) -> Compiled:
  """Compiles a traced function for the devices on which its shapes lie."""
  with _without_cache():
    lowered = traced.lower()
    try:
      compiled = lowered.compile(None if thorough else _QUICK)
    except jax.errors.JaxRuntimeError as error:
      return _too_large(error)
  memory = compiled.memory_analysis()
  return Compiled(
    arguments=memory.argument_size_in_bytes,
    temporary=memory.temp_size_in_bytes,
    peak=memory.peak_memory_in_bytes,
    limit=0,
    collectives=_collectives(compiled, loops),
  )


def _collectives(compiled: Any, loops: int) -> tuple | None:
  try:
    text = compiled.as_text()
  except jax.errors.JaxRuntimeError:
    return None
  return tuple(hlo.collectives(text, loops=loops))


@contextlib.contextmanager
def _without_cache() -> Iterator[None]:
  """jax would write what it compiled, and cannot read it without a TPU."""
  was = jax.config.jax_enable_compilation_cache
  try:
    _use_cache(False)
    yield
  finally:
    _use_cache(was)


def _use_cache(uses: bool) -> None:
  jax.config.update('jax_enable_compilation_cache', uses)
  compilation_cache.reset_cache()  # whether it is used is asked once


# What compilers say: (needed, there), of all memory or of temporary alone.
_SIZE = r'([\d.]+)([KMGT]?)'
_TOO_MUCH = (
  rf'[Uu]sed {_SIZE} of {_SIZE}',
  rf'temporaries \({_SIZE}\) exceeds available HBM \({_SIZE}\)',
)


def _too_large(error: Exception) -> Compiled:
  """What a compiler that ran out of memory says; anything else is raised."""
  found = (re.search(pattern, str(error)) for pattern in _TOO_MUCH)
  said = next(filter(None, found), None)
  if said is None:
    raise error
  needed, limit = (
    int(float(number) * _UNITS[unit])
    for number, unit in (said.groups()[:2], said.groups()[2:])
  )
  return Compiled(0, 0, peak=needed, limit=limit)
