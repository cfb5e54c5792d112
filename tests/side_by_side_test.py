"""How many members are worked on at once, and what they know of it."""

import jax
import jax.numpy as jnp
import pytest

from ptjax import side_by_side
from ptjax.predict import rank


@pytest.mark.parametrize(
  'backend,members,pieces,count',
  [
    ('cpu', 5, 128, 5),
    ('cpu', 5, 2048, 1),
    ('cpu', 6, 2048, 2),
    ('cpu', 6, 1025, 3),
    ('cpu', 6, 1024, 3),  # four would fit, but do not divide six
    ('cpu', 5, 100_000, 1),
    ('tpu', 5, 100_000, 5),
  ],
)
def test_as_many_go_side_by_side_as_pieces_fit(
  backend, members, pieces, count, monkeypatch
):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  assert side_by_side.at_once(members, pieces) == count


@pytest.mark.parametrize('at_once', [1, 2, 6])
def test_a_function_knows_how_many_are_beside_it(at_once, monkeypatch):
  monkeypatch.setattr(side_by_side, 'at_once', lambda *_: at_once)

  def member(own):
    return own * side_by_side.beside()

  found = side_by_side.each(member, jnp.arange(6), count=6, pieces=1)
  assert found.tolist() == [i * at_once for i in range(6)]


def test_what_choices_take_together_is_bounded():
  assert [rank.together(n) for n in (1, 2, 3, 4, 5, 20)] == [4, 2, 1, 1, 1, 1]
