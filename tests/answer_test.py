"""Answers of one program, and of two: what reads, and what says."""

import jax
import numpy as np
import pytest
from contract import B, T, batch, case

from ptjax import answer
from ptjax.predict import beam, sample


@pytest.mark.parametrize('family', ['t5', 'gpt2'])
@pytest.mark.parametrize('sampler', [sample.Greedy(), beam.Beams(2)])
def test_two_programs_say_what_one_says(family, sampler):
  found = case('soft_prompt', family)
  both = jax.tree.map(lambda *x: np.stack(x), found.tuned, found.first)
  one, two = (
    answer.make_answers(found.made, sampler=sampler, compiler_options=options)(
      both, found.frozen, batch(), max_length=T
    )
    for options in (None, {})
  )
  assert len(np.unique(one)) > 1
  np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('family', ['t5', 'gpt2'])
def test_inputs_are_read_by_the_first_program_alone(family, monkeypatch):
  found = case('soft_prompt', family)
  both = jax.tree.map(lambda x: x[None], found.tuned)
  named = {'t5': 'encode', 'gpt2': 'key_values'}[family]
  network, called = type(found.made.model), []
  real = getattr(network, named)

  def counted(self, ids, *args, **kwargs):
    called.append(ids.shape)
    return real(self, ids, *args, **kwargs)

  monkeypatch.setattr(network, named, counted)
  rows = batch()
  answers = answer.make_answers(found.made, compiler_options={})
  answers(both, found.frozen, rows, max_length=T)
  inputs = [shape for shape in called if shape[0] == B]
  assert len(inputs) == 1
