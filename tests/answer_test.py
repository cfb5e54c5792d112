"""Answers of one program, and of two: what reads, and what says."""

import jax
import numpy as np
import pytest
from contract import B, T, batch, case

from ptjax import answer, side_by_side
from ptjax.models import t5
from ptjax.predict import beam, sample


@pytest.mark.parametrize(
  'sampler,at_once', [(sample.Greedy(), 2), (beam.Beams(2), 1)]
)
def test_two_programs_say_what_one_says(sampler, at_once, monkeypatch):
  """Of members side by side and in turn, each row by its task's prompt."""
  monkeypatch.setattr(side_by_side, 'at_once', lambda *_: at_once)
  found = case('multitask_prompt', 't5')
  both = jax.tree.map(lambda *x: np.stack(x), found.tuned, found.first)
  one, two = (
    answer.make_answers(found.made, sampler=sampler, compiler_options=options)(
      both, found.frozen, batch(), max_length=T
    )
    for options in (None, {})
  )
  assert len(np.unique(one)) > 1
  np.testing.assert_array_equal(one, two)


def test_inputs_are_read_by_the_first_program_alone(monkeypatch):
  found = case('soft_prompt', 't5')
  both = jax.tree.map(lambda x: x[None], found.tuned)
  real, called = t5.T5.encode, []

  def counted(self, ids, *args, **kwargs):
    called.append(ids.shape)
    return real(self, ids, *args, **kwargs)

  monkeypatch.setattr(t5.T5, 'encode', counted)
  answers = answer.make_answers(found.made, compiler_options={})
  answers(both, found.frozen, batch(), max_length=T)
  assert len(called) == 1 and called[0][0] == B
