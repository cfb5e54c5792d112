"""What is offered and would be said; what is decoded all the same."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import B, T, batch, case

from ptjax import answer
from ptjax.predict import guess, sample

END, PAD = 1, 0
OFFERED = {
  'choices': np.array(
    [
      [[5, END, PAD], [6, 7, END]],
      [[5, 6, 7], [8, END, PAD]],  # the first has no end
      [[5, END, 9], [PAD, PAD, PAD]],  # one choice, with something behind it
    ]
  ),
  'choice_lengths': np.array([[2, 3], [3, 2], [2, 0]]),
  'index': np.array([4, 0, 2]),
}


def said(greedy, max_length=3, pad_id=PAD, **changes):
  return guess.said(
    jnp.array(greedy, bool),
    {k: jnp.asarray(v) for k, v in {**OFFERED, **changes}.items()},
    eos_id=END,
    pad_id=pad_id,
    max_length=max_length,
  )


@pytest.mark.parametrize(
  'greedy,want',
  [
    ([[0, 1], [0, 1], [1, 0]], [[6, 7, END], [8, END, PAD], [5, END, PAD]]),
    ([[0, 0], [0, 1], [1, 0]], [None, [8, END, PAD], [5, END, PAD]]),
    # Without an end, and nothing at all, are not answers.
    ([[1, 0], [1, 0], [0, 1]], [[5, END, PAD], None, None]),
  ],
)
def test_the_greedy_choice_is_said(greedy, want):
  ids, found = said(greedy)
  assert found.tolist() == [row is not None for row in want]
  for row, wanted in zip(ids.tolist(), want):
    assert wanted is None or row == wanted


def test_ids_are_as_long_as_an_answer_may_be():
  greedy = [[0, 1], [0, 1], [1, 0]]
  ids, found = said(greedy, max_length=5)
  assert ids.tolist()[0] == [6, 7, END, PAD, PAD] and found.all()
  # One that does not fit would have been cut.
  ids, found = said(greedy, max_length=2)
  assert ids.shape == (3, 2) and found.tolist() == [False, True, True]


def test_the_end_may_be_what_pads():
  choices = np.where(OFFERED['choices'] == PAD, END, OFFERED['choices'])
  ids, found = said(
    [[0, 1], [0, 1], [1, 0]], pad_id=END, max_length=4, choices=choices
  )
  assert found.all()
  assert ids.tolist() == [[6, 7, 1, 1], [8, 1, 1, 1], [5, 1, 1, 1]]
  # Padding that looks like an end is none of a choice that has no end.
  choices[1, 0] = [5, 6, END]
  _, found = said(
    [[0, 0], [1, 0], [0, 0]],
    pad_id=END,
    choices=choices,
    choice_lengths=np.array([[2, 3], [2, 2], [2, 0]]),
  )
  assert not found.any()


def test_what_fills_up_a_batch_is_not_asked():
  _, found = said([[0, 0]] * 3, index=np.array([-1, 0, -1]))
  assert found.tolist() == [True, False, True]


@pytest.mark.parametrize('missed', [None, (0, 1), (1, 0)])
def test_one_row_of_one_member_makes_all_of_them_decode(missed):
  found = np.ones((2, 2), bool)
  if missed:
    found[missed] = False
  ids = jnp.arange(8).reshape(2, 2, 2)

  @jax.jit
  @functools.partial(jax.vmap, axis_name='members')
  def run(ids, found):
    return guess.or_decode((ids, found), lambda: ids - 100, axis_name='members')

  want = ids - 100 if missed else ids
  np.testing.assert_array_equal(run(ids, jnp.asarray(found)), want)
  # The loop is a branch, not computed beside what was guessed.
  assert 'cond[' in str(jax.make_jaxpr(run)(ids, found))


@pytest.mark.parametrize(
  'method,family,read_apart',
  [
    ('soft_prompt', 't5', None),
    ('soft_prompt', 't5', {}),
    ('prefix_tuning', 't5', None),
    ('soft_prompt', 'gpt2', None),
    ('prefix_tuning', 'llama', None),
  ],
)
def test_offered_answers_are_not_decoded_where_they_would_be_said(
  method, family, read_apart, monkeypatch
):
  """They are the decoded ones; one row that says another decodes them all."""
  found, rows = case(method, family), batch()
  both = jax.tree.map(lambda *x: jnp.stack(x), found.tuned, found.first)

  def answers(made, rows):
    run = answer.make_answers(made, compiler_options=read_apart)
    return np.asarray(run(both, found.frozen, rows, max_length=T + 1))

  free = answers(found.made, rows | {'index': np.arange(B)})[..., :T]
  # An end that most rows say to both members, and not all at once.
  is_IxExBxT = free == np.arange(400)[:, None, None, None]
  late_I = (is_IxExBxT.any(-1) & ~is_IxExBxT[..., 0]).any((1, 2))
  ending_IxB = is_IxExBxT.any(-1).all(1)
  end = int(np.argmax(ending_IxB.sum(-1) * late_I))
  config = dataclasses.replace(found.made.model.config, eos_id=end)
  made = dataclasses.replace(
    found.made, model=found.made.model.clone(config=config)
  )
  pick = np.resize(np.flatnonzero(ending_IxB[end]), B)
  rows = {k: v[pick] for k, v in rows.items()} | {'index': np.arange(B)}
  decoded = answers(made, rows)
  assert (decoded == end).any(-1).all() and (decoded[..., 0] != end).any()
  choices = np.full((B, 3, T + 1), 9)  # nobody says the first
  choices[:, 1:] = decoded.swapaxes(0, 1)
  lengths = np.argmax(choices == end, axis=-1) + 1
  offered = {'choices': choices, 'choice_lengths': lengths}
  np.testing.assert_array_equal(answers(made, rows | offered), decoded)

  monkeypatch.setattr(
    sample, 'generate', lambda *_, **__: jnp.full((B, T + 1), -7)
  )
  np.testing.assert_array_equal(answers(made, rows | offered), decoded)
  offered['choices'][2, 1:, 0] += 1
  assert (answers(made, rows | offered) == -7).all()
  filler = {'index': np.array([0, 1, -1, 3])}
  kept = answers(made, rows | offered | filler)
  np.testing.assert_array_equal(
    kept[:, filler['index'] >= 0], decoded[:, filler['index'] >= 0]
  )
