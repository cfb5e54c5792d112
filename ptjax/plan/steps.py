"""The jitted functions of a run and the shapes that they are given.

Owns what is not read but assumed: every row is as long as the longest may be.
Nothing is computed here, and nothing compiled.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ptjax import mesh, parts, tree
from ptjax.methods import base
from ptjax.plan import products
from ptjax.predict import guess
from ptjax.tuned import base as tuned_base

Tree = Any

NAMES = ('train', 'decode', 'rank')


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Padded lengths of a batch, in pieces, and choices of a row."""

  inputs: int
  targets: int
  choices: int


@dataclasses.dataclass(frozen=True)
class Step:
  """One jitted function, traced over shapes.

  Attributes:
    name: train, decode or rank.
    traced: what jax.jit traced, to be lowered and compiled.
    work: its matrix products, on all devices together.
  """

  name: str
  traced: Any
  work: products.Work


def lengths(config: Any) -> Lengths:
  """The longest that a run may have; the data is not read."""
  return Lengths(
    inputs=max(config.buckets) if config.buckets else config.input_length,
    targets=config.target_length or config.plan.targets,
    choices=config.plan.choices,
  )


def trace(made: parts.Parts, name: str) -> Step:
  """Traces a function of a run over shapes.

  Args:
    made: the outlined parts of the run.
    name: one of NAMES.
  """
  config, longest = made.config, lengths(made.config)
  tuned, frozen = begin(made)
  options, loops = {}, 1
  if name == 'train':
    function, (own, batch) = made.placed_step, trained(made)
  else:
    function, own = made.placed_choices, tuned
    batch = _batch((config.eval.batch_size,), longest)
    batch |= _asked((config.eval.batch_size,), longest, name)
    batch = made.layout.shapes(batch, mesh.ROWS)
    if name == 'decode':
      function, loops = made.placed_answers, longest.targets
      options = {'max_length': longest.targets}
  with made.layout.tracing(made.loaded.config.vocab_size):
    traced = function.trace(own, frozen, batch, **options)
  counts = [len(jax.tree.leaves(x)) for x in (own, frozen, batch)]
  is_frozen = [False] * counts[0] + [True] * counts[1] + [False] * counts[2]
  return Step(
    name, traced, products.count(traced.jaxpr, is_frozen, loops=loops)
  )


def trained(made: parts.Parts) -> tuple[Tree, Tree]:
  """(state of all members, batch) of a training step, as shapes."""
  tuned, _ = begin(made)
  shape = (len(made.members), made.config.train.batch_size)
  batch = _batch(shape, lengths(made.config))
  return _state(made, tuned), made.layout.shapes(batch, None, mesh.ROWS)


def begin(made: parts.Parts) -> tuple[Tree, Tree]:
  """(tuned of all members, frozen) as shapes with their places."""
  settings = made.config.method.copy_and_resolve_references()
  settings.init = 'uniform'  # a start from labels or a file has that shape
  tuned_model = tuned_base.make(made.tuned_model.model, base.make(settings))

  def start(params):
    tuned, frozen = tuned_model.init(
      jax.random.key(0), params, tune=tuple(made.config.tune)
    )
    return parts.stack([tuned] * len(made.members)), frozen

  tuned, frozen = jax.eval_shape(start, made.loaded.params)
  model = tree.flatten({'model': made.loaded.params})
  held = {
    name: model[name] if name in model else made.layout.shapes(leaf)
    for name, leaf in tree.flatten(frozen).items()
  }
  return made.layout.shapes(tuned), tree.unflatten(held)


def _state(made: parts.Parts, tuned: Tree) -> Tree:
  return made.layout.shapes(jax.eval_shape(made.begun, tuned))


def _batch(rows: tuple[int, ...], longest: Lengths) -> Tree:
  """Shapes of what `data.batch.make` gives."""
  sizes = {'input': longest.inputs, 'target': longest.targets}
  batch = {'index': jax.ShapeDtypeStruct(rows, jnp.int32)}
  for name, size in sizes.items():
    batch[f'{name}s'] = jax.ShapeDtypeStruct((*rows, size), jnp.int32)
    batch[f'{name}_mask'] = jax.ShapeDtypeStruct((*rows, size), jnp.bool_)
  return batch


def _asked(rows: tuple[int, ...], longest: Lengths, name: str) -> Tree:
  """Shapes of what evaluation puts beside them."""
  more = {'front': rows}
  if name == 'rank' or longest.choices <= guess.MOST:
    more['choice_lengths'] = (*rows, longest.choices)
    more['choices'] = (*rows, longest.choices, longest.targets)
  return {
    key: jax.ShapeDtypeStruct(shape, jnp.int32) for key, shape in more.items()
  }
