"""The axis of members: worked on side by side, or in turn.

Owns how many go at once, and that one alone has no such axis. Knows no model;
what is done with a member is a function.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ptjax import mesh

Tree = Any

# The name of the axis of those that are side by side.
MEMBERS = 'members'


def over(function: Callable) -> Callable:
  """function(tuned, frozen, batch) of each member on the same batch."""

  def members(tuned, frozen, batch):
    leaves = jax.tree.leaves(tuned)
    return each(
      lambda own: function(own, frozen, batch),
      tuned,
      count=leaves[0].shape[0] if leaves else 1,  # no method: one member
      pieces=batch['inputs'].size,
    )

  return members


def each(function: Callable, own: Tree, *, count: int, pieces: int) -> Tree:
  """function(what is a member's own) of each, so many side by side.

  What is side by side has the axis name MEMBERS.
  """
  size = at_once(count, pieces)
  side_by_side = jax.vmap(function, axis_name=MEMBERS, axis_size=size)
  if size == 1:
    side_by_side = functools.partial(_alone, function)
  if size == count:
    return side_by_side(own)
  groups = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), own)
  return jax.tree.map(
    lambda x: x.reshape(-1, *x.shape[2:]), jax.lax.map(side_by_side, groups)
  )


def beside() -> int:
  """How many members are side by side, asked inside the function of `each`."""
  return jax.lax.psum(1, MEMBERS)


def _alone(function: Callable, own: Tree) -> Tree:
  """function of the only member, whose arrays have no axis of members.

  One of size 1 before all others costs: XLA's sums of products over the last
  axis take ten times as long on a CPU.
  """
  own = jax.tree.map(lambda x: x[0], own)
  named = jax.vmap(lambda _: function(own), axis_name=MEMBERS)
  return named(jnp.zeros(1))


# Pieces of input that a CPU works on at once.
CPU_PIECES = 4096


def at_once(members: int, pieces: int) -> int:
  """How many members are worked on side by side: all, but not on a CPU.

  There as many as have CPU_PIECES together. A few short rows are small products
  that do not keep its cores busy; the activations of many only leave its
  caches, and are so large that they come from the system anew, page by page,
  at every step (`python -m ptjax.bench population`).

  Args:
    pieces: of the padded inputs of one member.

  Returns:
    A divisor of `members`.
  """
  if mesh.platform() != 'cpu':
    return members
  most = max(1, CPU_PIECES // pieces)
  return max(
    size for size in range(1, min(members, most) + 1) if members % size == 0
  )
