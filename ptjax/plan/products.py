"""The matrix products of a traced function, counted from its shapes.

Owns how often each product of a program is done, in loops too: what a compiler
reports counts the body of a loop once. Knows no model; an operation is one
multiplication or one addition, whatever else is computed is left out.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import partial_eval


@dataclasses.dataclass(frozen=True)
class Work:
  """What the products of a program take, on all devices together.

  Attributes:
    operations: multiplications and additions.
    frozen: bytes of frozen operands, each time they are read.
    moved: bytes of the other operands and of the results.
  """

  operations: int = 0
  frozen: int = 0
  moved: int = 0

  def __add__(self, other: 'Work') -> 'Work':
    return Work(
      self.operations + other.operations,
      self.frozen + other.frozen,
      self.moved + other.moved,
    )

  def __mul__(self, times: int) -> 'Work':
    return Work(
      self.operations * times, self.frozen * times, self.moved * times
    )


# What hands on an operand that is still the same weights.
_SAME = frozenset(
  (
    'broadcast_in_dim',
    'convert_element_type',
    'copy',
    'dynamic_slice',
    'name',
    'optimization_barrier',
    'reshape',
    'sharding_constraint',
    'slice',
    'squeeze',
    'transpose',
  )
)


def count(program: Any, frozen: Sequence[bool], *, loops: int = 1) -> Work:
  """The products of a closed jaxpr, but those that no result needs.

  Args:
    frozen: of each input, whether it is a frozen weight.
    loops: how often a loop runs that ends by a condition, such as decoding.
  """
  # A compiler drops the gradient of a frozen weight; so does this.
  asked = [True] * len(program.jaxpr.outvars)
  needed, _ = partial_eval.dce_jaxpr(program.jaxpr, asked, instantiate=True)
  widths = [
    _width(v.aval) if is_held else 0
    for v, is_held in zip(needed.invars, frozen)
  ]
  return _walk(needed, widths, loops)[0]


# Of each value, bytes a number of the frozen weight that it is, in the type
# that it is kept in; 0 = it is none.
Widths = list[int]


def _walk(program: Any, frozen: Widths, loops: int) -> tuple[Work, Widths]:
  """(its products, which of its results are still frozen weights)."""
  held = dict(zip(program.invars, frozen))
  work = Work()

  def holds(atom: Any) -> int:
    return 0 if isinstance(atom, core.Literal) else held.get(atom, 0)

  for eqn in program.eqns:
    given, name = [holds(atom) for atom in eqn.invars], eqn.primitive.name
    out = [0] * len(eqn.outvars)
    if name == 'dot_general':
      work += _product(eqn, given)
    elif name == 'scan':
      body = eqn.params['jaxpr'].jaxpr
      inside, _ = _walk(body, given, loops)
      work += inside * eqn.params['length']
    elif name == 'while':
      skipped = eqn.params['cond_nconsts']
      body = eqn.params['body_jaxpr'].jaxpr
      work += _walk(body, given[skipped:], loops)[0] * loops
    elif name == 'cond':
      each = [
        _walk(branch.jaxpr, given[1:], loops)[0]
        for branch in eqn.params['branches']
      ]
      work += max(each, key=lambda w: w.operations)
    elif inner := _inner(eqn):
      inside, out = _walk(inner, given, loops)
      work += inside
    elif name in _SAME:
      out = given[: len(out)]
    held |= zip(eqn.outvars, out)
  return work, [holds(atom) for atom in program.outvars]


def _inner(eqn: Any) -> Any:
  """The program that an equation calls once with its own inputs."""
  for key in ('jaxpr', 'call_jaxpr', 'fun_jaxpr'):
    found = eqn.params.get(key)
    found = getattr(found, 'jaxpr', found)
    if found is not None and len(found.invars) == len(eqn.invars):
      return found
  return None


def _product(eqn: Any, given: Widths) -> Work:
  (contracted, _), _ = eqn.params['dimension_numbers']
  left, right = (atom.aval for atom in eqn.invars)
  (result,) = (v.aval for v in eqn.outvars)
  length = math.prod(left.shape[axis] for axis in contracted)
  frozen, moved = 0, math.prod(result.shape) * _width(result)
  for aval, width in zip((left, right), given):
    if width:
      frozen += math.prod(aval.shape) * width
    else:
      moved += math.prod(aval.shape) * _width(aval)
  return Work(2 * math.prod(result.shape) * length, frozen, moved)


def _width(aval: Any) -> int:
  return jax.numpy.dtype(aval.dtype).itemsize
