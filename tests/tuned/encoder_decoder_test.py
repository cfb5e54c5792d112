"""Model and method together: what trains, and three ways to the same logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ptjax import answer, cross_entropy, step, tree
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.methods import base
from ptjax.predict import beam, sample
from ptjax.tuned import base as tuned_base


def settings(**changes):
  c = config_lib.default()
  c.method.update({'length': 6, 'init': 'uniform', **changes})
  return c.method


@pytest.fixture(scope='module')
def parts():
  model, params = tiny.t5()
  tuned_model = tuned_base.make(model, base.make(settings()))
  tuned, frozen = tuned_model.init(jax.random.key(1), params)
  return tuned_model, tuned, frozen, params


@pytest.fixture(scope='module')
def logits(parts):
  """Teacher-forced logits, compiled once."""
  made = jax.jit(parts[0].logits)

  def run(**changes):
    batch = {
      **tiny.batch(),
      'front': np.full(4, parts[0].method.front),
      **changes,
    }
    return np.asarray(made(parts[1], parts[2], batch), np.float64)

  return run


def test_what_trains_is_the_prompt_in_float32_and_the_rest_is_as_loaded(parts):
  tuned_model, tuned, frozen, params = parts
  assert set(tree.flatten(tuned)) == {'prompt/encoder'}
  assert tree.checksum(frozen['model']) == tree.checksum(params)
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  tuned, frozen = tuned_model.init(jax.random.key(1), half)
  assert {x.dtype for x in jax.tree.leaves(tuned)} == {jnp.float32.dtype}
  assert {x.dtype for x in jax.tree.leaves(frozen)} == {jnp.bfloat16.dtype}


def test_a_gradient_is_taken_of_what_trains_alone(parts):
  """The backward program makes no array in the shape of a frozen weight."""
  tuned_model, tuned, frozen, _ = parts
  batch = tiny.batch()

  def loss(tuned, frozen):
    logits = tuned_model.logits(tuned, frozen, batch)
    return cross_entropy.of_logits(
      logits, batch['targets'], mask_BxT=batch['target_mask']
    )

  found = jax.eval_shape(jax.grad(loss), tuned, frozen)
  assert tree.flatten(found).keys() == tree.flatten(tuned).keys()
  # A frozen gradient costs products; without them the program is shorter.
  both = jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(tuned, frozen)
  alone = jax.make_jaxpr(jax.grad(loss))(tuned, frozen)
  products = [str(tiny.needed(p)).count('dot_general') for p in (alone, both)]
  assert products[0] < products[1]


def test_choices_are_scored_as_each_would_be_alone(parts, logits):
  tuned_model, tuned, frozen, _ = parts
  batch = tiny.batch()
  rng = np.random.default_rng(3)
  choices = rng.integers(3, tiny.CONFIG.vocab_size, (4, 3, 5))
  for b, c in np.ndindex(4, 3):
    end = rng.integers(1, 5)
    choices[b, c, end] = tiny.CONFIG.eos_id
    choices[b, c, end + 1 :] = 0
  choices[3, 2] = 0  # a row that has fewer choices
  batch['choices'] = choices.astype(np.int32)
  batch['choice_lengths'] = (choices != 0).sum(-1)
  own = jax.tree.map(lambda x: x[None], tuned)
  (sums,), (counts,) = step.make_choices(tuned_model)(own, frozen, batch)
  for c in range(3):
    found = logits(targets=batch['choices'][:, c])
    shifted = found - found.max(-1, keepdims=True)
    nats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    for b in range(4):
      ids = [i for i in choices[b, c] if i]
      want = sum(nats[b, t, i] for t, i in enumerate(ids))
      assert float(sums[b, c]) == pytest.approx(want, abs=1e-4)
      assert int(counts[b, c]) == len(ids)


def test_greedy_steps_say_what_the_whole_decoder_says(parts, logits):
  """With a prompt, from the cache: each token is the argmax of its prefix."""
  tuned_model, tuned, frozen, _ = parts
  batch = tiny.batch()
  generate = answer.make_generate(tuned_model, sampler=sample.Greedy())
  ids = np.asarray(generate(tuned, frozen, batch, None, max_length=5))
  assert len(np.unique(ids)) > 1
  with_prompt = logits(targets=ids)
  for row, said in zip(ids, with_prompt.argmax(-1)):
    ends = np.flatnonzero(row == tiny.CONFIG.eos_id)
    length = ends[0] + 1 if len(ends) else len(row)
    np.testing.assert_array_equal(row[:length], said[:length])
  # And it is the prompt that is read, not its absence.
  bare = logits(targets=ids, front=np.zeros(4, int))
  assert np.abs(bare - with_prompt).max() > 0.1


def test_model_tuning_leaves_the_loaded_weights_for_the_next_task(parts):
  """A step donates what trains; the loaded arrays must not go with it."""
  params = parts[3]
  before = tree.checksum(params)
  method = base.make(settings(name='model_tuning'))
  tuned, frozen = tuned_base.make(parts[0].model, method).init(
    jax.random.key(0), params
  )
  assert not jax.tree.leaves(frozen)
  update = jax.jit(
    lambda tuned: jax.tree.map(lambda x: x + 1, tuned), donate_argnums=0
  )
  update(tuned)
  assert all(x.is_deleted() for x in jax.tree.leaves(tuned))
  assert tree.checksum(params) == before


def test_a_pattern_may_move_weights_of_the_model_beside_the_prompt(parts):
  tuned_model, _, _, params = parts
  patterns = ('prompt/.*', 'model/.*final_layer_norm.*|model/.*norm.*')
  tuned, frozen = tuned_model.init(jax.random.key(1), params, tune=patterns)
  names = set(tree.flatten(tuned))
  assert 'prompt/encoder' in names and len(names) > 1
  assert not names & set(tree.flatten(frozen))
  with pytest.raises(UserError, match="'modle/.\\*' matches none"):
    tuned_model.init(jax.random.key(1), params, tune=('modle/.*',))


def test_beams_find_answers_no_less_likely_than_greedy(parts):
  tuned_model, tuned, frozen, _ = parts
  batch, found = tiny.batch(), []
  for sampler in (sample.Greedy(), beam.Beams(6, length_penalty=0.0)):
    generate = answer.make_generate(tuned_model, sampler=sampler)
    ids = np.asarray(generate(tuned, frozen, batch, None, max_length=5))
    row = batch | {'targets': ids, 'target_mask': ids != 0}
    nats, _ = step.make_log_probs(tuned_model)(tuned, frozen, row)
    found.append(np.asarray(nats))
  assert (found[1] >= found[0] - 1e-5).all()
  assert (found[1] > found[0] + 1e-3).any()
