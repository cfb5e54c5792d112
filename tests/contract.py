"""The table of the contract: each method that trains, on each family of models.

Owns its rows and what they share: a method at its start and at random values,
and one compiled program of logits and gradient for each of them. Its properties
are in `contract_test.py` and, of steps and decoders, `contract_steps_test.py`.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from goldens import causal_models

from ptjax import config as config_lib
from ptjax import cross_entropy, optim
from ptjax.methods import base
from ptjax.tuned import base as tuned_base
from ptjax.weights import load

# What trains, with settings that tell its shapes apart.
METHODS = {
  'soft_prompt': {'length': 3, 'init': 'uniform'},
  'p_tuning': {'length': 3, 'hidden': 5},
  'prefix_tuning': {'length': 3, 'init': 'labels'},
  'model_tuning': {},
  'lora': {'rank': 2},
  'ia3': {},
  'bitfit': {},
  'adapters': {'bottleneck': 2},
  'input_tuning': {'length': 3, 'init': 'uniform', 'hidden': 7},
  'multitask_prompt': {'length': 3, 'init': 'uniform', 'ranks': 2},
}
# The same by another setting.
VARIANTS = {
  'soft_prompt around': {
    'name': 'soft_prompt',
    'template': '{2} {#9} {input} {#7} {1}',
  },
  'p_tuning by an mlp, behind': {
    'name': 'p_tuning',
    'encoder': 'mlp',
    'template': '{input} {3}',
  },
  'prefix_tuning by an mlp': {
    'name': 'prefix_tuning',
    'length': 3,
    'hidden': 4,
  },
}
B, L, T = 4, 9, 5
TASKS = 3

FULL = pytest.mark.full
FAMILIES = ('t5', 'gpt2', 'pythia', 'llama')
CHEAP = [(m, f) for f in ('t5', 'gpt2') for m in METHODS]
ALL = [(m, f) for f in FAMILIES for m in {**METHODS, **VARIANTS}]
CASES = [
  pytest.param(*case, marks=() if case in CHEAP else FULL) for case in ALL
]
EACH = pytest.mark.parametrize('method,family', CASES)
EVERY = pytest.mark.parametrize('method,family', ALL)


@functools.cache
def network(family: str) -> tuple[Any, Any]:
  """(model, params)."""
  if family == 't5':
    return tiny.t5()
  found = load.load(str(causal_models.FOLDER / family))
  return found.model, found.params


def settings(method: str):
  c = config_lib.default()
  own = {**METHODS, **VARIANTS}.get(method, {})
  c.method.update({'name': method, **own})
  return config_lib.resolved(c)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
  """A method on a model: at its start, and at random values."""

  made: tuned_base.TunedModel
  tx: Any
  first: Any
  tuned: Any
  frozen: Any


@functools.cache
def case(method: str, family: str) -> Case:
  (model, params), c = network(family), settings(method)
  made = tuned_base.make(model, base.make(c.method))
  first, frozen = made.init(jax.random.key(1), params, tasks=TASKS)
  rng = np.random.default_rng(2)
  size = 0.03 if method == 'model_tuning' else 0.3

  def moved(leaf):
    noise = size * rng.normal(size=leaf.shape)
    return leaf + jnp.asarray(noise, jnp.float32)

  def tx(rate):
    return optim.make(c.optimizer, steps=9, lr=rate)

  return Case(made, tx, first, jax.tree.map(moved, first), frozen)


def batch(seed: int = 0) -> dict[str, np.ndarray]:
  """Rows of unequal lengths, padded behind by ids that look real.

  What has something of its own for each task reads it by `task`.
  """
  rng = np.random.default_rng(seed)
  lengths, ends = rng.integers(1, L + 1, B), rng.integers(1, T + 1, B)
  lengths[0], ends[1] = L, T
  return {
    'inputs': rng.integers(6, 61, (B, L)).astype(np.int32),
    'input_mask': np.arange(L) < lengths[:, None],
    'targets': rng.integers(6, 61, (B, T)).astype(np.int32),
    'target_mask': np.arange(T) < ends[:, None],
    'task': np.array([2, 0, 1, 2], np.int32),
  }


@functools.partial(jax.jit, static_argnums=0)
def program(made, tuned, frozen, rows):
  def loss(tuned):
    logits = made.logits(tuned, frozen, rows)
    mask = rows['target_mask']
    total = cross_entropy.of_logits(logits, rows['targets'], mask_BxT=mask)
    return total, logits

  gradient, logits = jax.grad(loss, has_aux=True)(tuned)
  return logits, gradient


def run(case_: Case, tuned: Any, rows: Any) -> tuple[np.ndarray, Any]:
  """(logits of real targets [N, V], gradient)."""
  logits, gradient = program(case_.made, tuned, case_.frozen, rows)
  return np.asarray(logits)[rows['target_mask']], gradient


def bare(family: str) -> tuned_base.TunedModel:
  return tuned_base.make(network(family)[0], base.make(settings('none').method))


@functools.cache
def untuned(family: str) -> np.ndarray:
  params = network(family)[1]
  logits, _ = program(bare(family), {}, {'model': params}, batch())
  return np.asarray(logits)[batch()['target_mask']]


def differ(found: Any, expected: Any) -> float:
  """The largest difference of two trees over the largest value."""
  both = jax.tree.leaves(found), jax.tree.leaves(expected)
  pairs = list(zip(*both, strict=True))
  size = max(np.abs(b).max() for _, b in pairs)
  # Of numpy, which keeps a NaN: Python's max leaves out all but a first one.
  return np.max([np.abs(np.asarray(a) - b).max() for a, b in pairs]) / size


def assert_same_bits(found: Any, expected: Any) -> None:
  jax.tree.map(np.testing.assert_array_equal, found, expected)
