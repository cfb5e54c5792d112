"""What a method costs: a step's time and memory, and what is saved of it.

Owns how these are measured, for tables that compare methods. Knows no method.
"""

import itertools
import pathlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from ptjax import relay, tree
from ptjax.parts import Parts

_LOOKED_AT = 50  # batches, for the longest


def measure(
  parts: Parts,
  state: Any,
  frozen: Any,
  *,
  batches: Iterator[Any],
  saved: pathlib.Path,
) -> dict[str, Any]:
  """`costs` of a task in results.json, of the longest batch among the first.

  Args:
    state: of all members; it is copied, and stays as it is.
    saved: what the run wrote of its prompts, without the suffix of a file; of
      several members it is a folder.

  Returns:
    parameters: that train, of one member.
    file_bytes: of one member's file.
    step_ms: the median of `train.costs` steps of all members, milliseconds.
    step_bytes: what the compiler gives the step: weights, state, batch, and
      all in between at its highest.
  """
  looked_at = itertools.islice(batches, _LOOKED_AT)
  batch = max(looked_at, key=lambda b: b['inputs'].shape[-1])
  state = jax.tree.map(jnp.copy, state)
  needed = parts.step_memory(state, frozen, batch)
  state, _ = parts.train_step(state, frozen, batch)  # may compile
  times = []
  for _ in range(parts.config.train.costs):
    began = time.monotonic()
    state, metrics = parts.train_step(state, frozen, batch)
    jax.block_until_ready((state, metrics))
    times.append(1000 * (time.monotonic() - began))
  members = len(parts.members)
  return {
    'parameters': tree.count(state.tuned) // members,
    'file_bytes': relay.of_first(lambda: _size(saved)) // members,
    'step_ms': round(statistics.median(times), 3),
    'step_bytes': needed,
  }


def _size(saved: pathlib.Path) -> int:
  files = [saved.with_name(f'{saved.name}.safetensors')]
  if saved.is_dir():
    files = list(saved.glob('*.safetensors'))
  return sum(file.stat().st_size for file in files)


# The columns of `row`.
HEAD = ['parameters', 'saved', 'ms a step', 'MiB a step']


def row(found: dict[str, Any]) -> list[str]:
  """results.json -> its costs; [] where they were not measured.

  Of several tasks the mean time, and the most of all else.
  """
  each = [task.get('costs') for task in found['tasks'].values()]
  if None in each:
    return []
  most = {name: max(one[name] for one in each) for name in each[0]}
  return [
    f'{most["parameters"]:,}',
    f'{most["file_bytes"] / 1000:,.1f} kB',
    f'{statistics.fmean(one["step_ms"] for one in each):.1f}',
    f'{most["step_bytes"] / 2**20:.1f}',
  ]
