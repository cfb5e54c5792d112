"""Parameter trees by slash-names: split, join, count, checksum.

Owns the one fact "what trains": a list of regular expressions that cuts a tree
in two. Knows no model, method or optimizer.
"""

import hashlib
import logging
import math
import re
from collections.abc import Sequence
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp

from ptjax.config import UserError

Tree = Any


def flatten(tree: Tree) -> dict[str, Any]:
  """Nested dict -> {'encoder/layers/mlp/wi_0': leaf}."""
  return flax.traverse_util.flatten_dict(tree, sep='/')


def unflatten(flat: dict[str, Any]) -> Tree:
  return flax.traverse_util.unflatten_dict(flat, sep='/')


def select(names: Sequence[str], patterns: Sequence[str]) -> dict[str, bool]:
  """Which names train.

  Args:
    names: slash-names.
    patterns: regular expressions that must match a whole name; the first that
      does wins. One that starts with '-' holds its names frozen. A name that
      none matches is frozen.

  Returns:
    {name: trains}. Every hit is logged.

  Raises:
    UserError: a pattern that is no regular expression, or matches no name.
  """
  compiled = [(text, _compile(text)) for text in patterns]
  chosen, hits = {}, dict.fromkeys(patterns, 0)
  for name in names:
    chosen[name] = False
    for text, (regex, trains) in compiled:
      if regex.fullmatch(name):
        chosen[name], hits[text] = trains, hits[text] + 1
        logging.debug(
          '%s %s by %r', name, 'tuned' if trains else 'frozen', text
        )
        break
  for text, count in hits.items():
    if not count and not any(_compile(text)[0].fullmatch(n) for n in names):
      raise UserError(
        f'tune: {text!r} matches none of the {len(names)} parameters, which '
        f'are named like {", ".join(sorted(names)[:3])}'
      )
  return chosen


def _compile(text: str) -> tuple[re.Pattern, bool]:
  try:
    return re.compile(text.removeprefix('-')), not text.startswith('-')
  except re.error as error:
    raise UserError(
      f'tune: {text!r} is no regular expression: {error}'
    ) from None


def split(tree: Tree, patterns: Sequence[str]) -> tuple[Tree, Tree]:
  """(what the patterns select, the rest), two trees without a common leaf."""
  flat = flatten(tree)
  chosen = select(list(flat), patterns)
  return (
    unflatten({k: v for k, v in flat.items() if chosen[k]}),
    unflatten({k: v for k, v in flat.items() if not chosen[k]}),
  )


def join(first: Tree, second: Tree) -> Tree:
  """The inverse of `split`."""
  return unflatten({**flatten(first), **flatten(second)})


def at(tree: Tree, i: int) -> Tree:
  """Each leaf's entry i along its first axis: of stacked members, one."""
  return jax.tree.map(lambda x: x[i], tree)


def count(tree: Tree) -> int:
  """Number of values; a `kernel_scale` is how a kernel is kept, and none."""
  return sum(
    math.prod(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    if getattr(path[-1] if path else None, 'key', '') != 'kernel_scale'
  )


def checksum(tree: Tree) -> str:
  """16 hex digits that change if any bit, name or place of the tree does.

  Computed where the arrays lie (so it costs one pass over memory, also for a
  sharded model) and therefore no cryptographic hash.
  """
  digest = hashlib.sha256()
  for name, leaf in sorted(flatten(tree).items()):
    words = [int(word) for word in _mix(jnp.asarray(leaf))]
    digest.update(f'{name} {leaf.dtype} {leaf.shape} {words}\n'.encode())
  return digest.hexdigest()[:16]


@jax.jit
def _mix(leaf: jax.Array) -> tuple[jax.Array, jax.Array]:
  bits = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
  words = jax.lax.bitcast_convert_type(leaf, bits).astype(jnp.uint32)
  place = jnp.zeros(leaf.shape, jnp.uint32)
  for axis, size in enumerate(leaf.shape):
    place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(
      jnp.uint32, leaf.shape, axis
    )

  def scramble(x):
    for multiplier in (0x85EBCA6B, 0xC2B2AE35):  # MurmurHash3's finaliser
      x = (x ^ (x >> 15)) * jnp.uint32(multiplier)
    return x ^ (x >> 16)

  mixed = scramble(words ^ scramble(place + jnp.uint32(1)))
  return jnp.sum(mixed, dtype=jnp.uint32), jnp.sum(
    scramble(mixed + place), dtype=jnp.uint32
  )
