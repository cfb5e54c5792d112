"""Decoder-only models tuned: a prompt run once is the prompt in every row."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goldens import causal_models

from ptjax import answer, cross_entropy, step
from ptjax import config as config_lib
from ptjax.methods import base
from ptjax.models import layers
from ptjax.predict import beam, sample
from ptjax.tuned import base as tuned_base
from ptjax.weights import load

FAMILIES = ('gpt2', 'llama', 'pythia')
P, B, L, T = 7, 4, 11, 4


@functools.cache
def loaded(case: str) -> load.Loaded:
  return load.load(str(causal_models.FOLDER / case))


def tuned_model(case: str, **settings):
  c = config_lib.default()
  c.method.update({'length': P, 'init': 'vocabulary', **settings})
  return tuned_base.make(loaded(case).model, base.make(c.method))


@functools.cache
def halves(case: str, seed: int = 1, length: int = P):
  made = tuned_model(case, length=length)
  return made.init(jax.random.key(seed), loaded(case).params)


def wide(tree_):
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree_)


def batch(case: str, seed: int = 0, **changes):
  """Rows of unequal lengths, padded on the right by ids that look real."""
  rng = np.random.default_rng(seed)
  size = loaded(case).config.vocab_size
  lengths, ends = rng.integers(1, L + 1, B), rng.integers(1, T + 1, B)
  lengths[0] = L
  return {
    'inputs': rng.integers(0, size, (B, L)).astype(np.int32),
    'input_mask': np.arange(L) < lengths[:, None],
    'targets': rng.integers(0, size, (B, T)).astype(np.int32),
    'target_mask': np.arange(T) < ends[:, None],
    **changes,
  }


def left(batch_):
  """The same rows with their inputs' padding on the other side."""
  lengths = batch_['input_mask'].sum(1)
  turned = {
    name: np.stack([np.roll(r, L - n) for r, n in zip(batch_[name], lengths)])
    for name in ('inputs', 'input_mask')
  }
  return batch_ | turned


def loss_of(made, frozen, batch_):
  def loss(tuned):
    logits = made.logits(tuned, frozen, batch_)
    return cross_entropy.of_logits(
      logits, batch_['targets'], mask_BxT=batch_['target_mask']
    )

  return jax.jit(jax.value_and_grad(loss))


@functools.partial(jax.jit, static_argnums=0)
def logits_of(made, tuned, frozen, given):
  return made.logits(tuned, frozen, given)


@functools.partial(jax.jit, static_argnums=0)
def applied(model, held, ids):
  return model.apply(held, ids, jnp.ones_like(ids, bool))


# What compiles for long and says little more than the others.
FULL = pytest.mark.full


@pytest.mark.parametrize(
  'case,kind,full_text',
  [
    ('gpt2', 'float64', False),
    ('pythia', 'float32', False),
    ('pythia', 'float64', True),
    *(
      pytest.param(case, kind, full_text, marks=FULL)
      for case, kind, full_text in (
        ('gpt2', 'float32', True),
        ('gpt2', 'float64', True),
        ('llama', 'float32', False),
        ('llama', 'float64', False),
        ('llama', 'float64', True),
        ('pythia', 'float64', False),
      )
    ),
  ],
)
def test_once_is_in_every_row_for_loss_and_gradient(case, kind, full_text):
  made, (tuned, frozen) = tuned_model(case), halves(case)
  limit = 1e-5
  with jax.enable_x64(kind == 'float64'):
    if kind == 'float64':
      tuned, frozen, limit = wide(tuned), wide(frozen), 1e-12
      model = made.model.clone(dtype=jnp.float64)
      made = dataclasses.replace(made, model=model)
    each = dataclasses.replace(made, once=False)
    given = batch(case)
    if full_text:
      given = made.full_text(given)
      assert given['inputs'].shape == (B, 0)
    want = loss_of(each, frozen, given)(tuned)
    sides = (given,) if full_text else (given, left(given))
    for here in sides:
      found = loss_of(made, frozen, here)(tuned)
      assert float(found[0]) == pytest.approx(float(want[0]), rel=limit)
      for a, b in zip(*map(jax.tree.leaves, (found[1], want[1]))):
        assert np.abs(b).max() > 0
        difference = np.abs(a - b).max() / np.abs(b).max()
        print(f'\n{case} {kind} full_text={full_text}: {difference:.1e}')
        assert difference <= limit


@pytest.mark.parametrize('case', FAMILIES)
def test_full_text_is_one_text_with_its_first_piece_said_by_the_prompt(case):
  """Against each row alone, put together by hand and never padded."""
  made, (tuned, frozen) = tuned_model(case), halves(case)
  given = batch(case)
  whole = made.full_text(given)
  found = logits_of(made, tuned, frozen, whole)
  for b in range(B):
    text = np.concatenate(
      [
        given['inputs'][b][given['input_mask'][b]],
        given['targets'][b][given['target_mask'][b]],
      ]
    )
    n = len(text)
    np.testing.assert_array_equal(whole['targets'][b, :n], text)
    assert whole['target_mask'][b].sum() == n
    first = loaded(case).config.vocab_size
    ids = np.concatenate([np.arange(first, first + P), text])[None]
    alone = applied(made.model, made._variables(tuned, frozen), ids)
    alone = alone[0, P - 1 : -1]
    np.testing.assert_allclose(found[b, :n], alone, rtol=1e-4, atol=1e-4)


def test_without_virtual_tokens_a_text_begins_unsaid():
  made = tuned_model('pythia', name='none')
  given = batch('pythia')
  whole = made.full_text(given)
  counts = given['input_mask'].sum(1) + given['target_mask'].sum(1)
  np.testing.assert_array_equal(whole['inputs'][:, 0], given['inputs'][:, 0])
  np.testing.assert_array_equal(whole['target_mask'].sum(1), counts - 1)


@pytest.mark.parametrize('case', FAMILIES)
def test_a_row_without_its_prompt_is_the_untuned_model(case):
  made, (tuned, frozen) = tuned_model(case), halves(case)
  given = batch(case, front=np.array([P, 0, P, 0]))
  found = np.asarray(logits_of(made, tuned, frozen, given))
  bare = tuned_model(case, name='none')
  untuned = logits_of(bare, {}, {'model': loaded(case).params}, given)
  whole = logits_of(made, tuned, frozen, batch(case))
  for b in range(B):
    want = untuned if b % 2 else whole
    np.testing.assert_allclose(found[b], want[b], rtol=1e-4, atol=1e-4)
  assert np.abs(np.asarray(untuned) - np.asarray(whole)).max() > 0.01


@pytest.mark.parametrize('count', [2, B + 2])  # fewer and more than rows
def test_rows_of_different_prompts_are_separate_runs(count):
  """Of different lengths: shorter ones are filled up in front."""
  case, rng = 'pythia', np.random.default_rng(5)
  made, frozen = tuned_model(case), halves(case)[1]
  lengths = [P if m % 2 else P - 3 for m in range(count)]
  own = [halves(case, seed=m, length=n)[0] for m, n in enumerate(lengths)]
  filled = [
    jax.tree.map(lambda x, n=n: jnp.pad(x, [(P - n, 0), (0, 0)]), one)
    for one, n in zip(own, lengths)
  ]
  together = jax.tree.map(lambda *x: jnp.stack(x), *filled)
  member = rng.permutation(count)[:B] if count > B else np.array([0, 1, 1, 0])
  front = np.array([lengths[m] for m in member])
  member = np.append(member[:-1], 0)
  front[-1] = 0  # the last row is the model alone
  mixed = batch(case, member=member.astype(np.int32), front=front)
  logits = logits_of(made, together, frozen, mixed)
  generate = answer.make_generate(made, sampler=sample.Greedy())
  said = generate(together, frozen, mixed, None, max_length=5)
  for b, m in enumerate(member):
    row = {k: v[b : b + 1] for k, v in batch(case).items()}
    single = tuned_model(case, length=lengths[m])
    row['front'] = np.array([front[b]])
    alone = logits_of(single, own[m], frozen, row)[0]
    np.testing.assert_allclose(logits[b], alone, rtol=1e-5, atol=1e-5)
    run = answer.make_generate(single, sampler=sample.Greedy())
    np.testing.assert_array_equal(
      said[b], run(own[m], frozen, row, None, max_length=5)[0]
    )


@pytest.mark.parametrize('case', FAMILIES)
def test_choices_are_scored_as_each_would_be_alone(case):
  """Also where padding is the id that ends a choice, as in GPT-2."""
  made, (tuned, frozen) = tuned_model(case), halves(case)
  rng, end = np.random.default_rng(3), loaded(case).config.eos_id
  lengths = rng.integers(1, T + 1, (B, 3))
  lengths[2, 1] = 0  # a row that has fewer choices
  choices = rng.integers(0, loaded(case).config.vocab_size, (B, 3, T))
  place = np.arange(T)
  choices = np.where(place < lengths[..., None] - 1, choices, end)
  given = batch(case, choices=choices, choice_lengths=lengths)
  own = jax.tree.map(lambda x: x[None], tuned)
  (sums,), (counts,) = step.make_choices(made)(own, frozen, given)
  np.testing.assert_array_equal(counts, lengths)
  for c in range(3):
    mask = place < lengths[:, c, None]
    row = batch(case, targets=choices[:, c], target_mask=mask)
    logits = np.asarray(logits_of(made, tuned, frozen, row), np.float64)
    nats = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    hit = np.take_along_axis(nats, choices[:, c, :, None], -1)[..., 0]
    np.testing.assert_allclose(sums[:, c], (hit * mask).sum(-1), atol=1e-4)


@pytest.mark.parametrize('case', FAMILIES)
def test_greedy_steps_say_what_the_whole_model_says(case):
  made, (tuned, frozen) = tuned_model(case), halves(case)
  generate = answer.make_generate(made, sampler=sample.Greedy())
  given = batch(case)
  ids = np.asarray(generate(tuned, frozen, given, None, max_length=6))
  assert len(np.unique(ids)) > 1
  row = given | {'targets': ids, 'target_mask': np.ones_like(ids, bool)}
  said = np.asarray(logits_of(made, tuned, frozen, row)).argmax(-1)
  end = loaded(case).config.eos_id
  for found, want in zip(ids, said):
    ends = np.flatnonzero(found == end)
    n = ends[0] + 1 if len(ends) else len(found)
    np.testing.assert_array_equal(found[:n], want[:n])


def test_the_prompt_is_run_once_whatever_the_rows():
  """Of 50 + 14 positions a row, 50 a batch and 14 a row are left: 41 %."""
  made = tuned_model('pythia', length=50)
  tuned, frozen = halves('pythia', length=50)
  given = batch('pythia')

  def flops(made):
    run = jax.jit(lambda t: made.logits(t, frozen, given))
    return run.lower(tuned).compile().cost_analysis()['flops']

  each = flops(dataclasses.replace(made, once=False))
  assert flops(made) < 0.5 * each


def test_dropout_moves_the_loss_and_repeats_by_its_key():
  made, (tuned, frozen) = tuned_model('pythia'), halves('pythia')
  config = dataclasses.replace(made.model.config, dropout_rate=0.3)
  made = dataclasses.replace(made, model=made.model.clone(config=config))
  given = batch('pythia')
  run = jax.jit(lambda rng=None: made.logits(tuned, frozen, given, rng=rng))
  one, same, other = (run(jax.random.key(s)) for s in (1, 1, 2))
  np.testing.assert_array_equal(one, same)
  assert np.abs(one - other).max() > 1e-3
  assert np.abs(one - run()).max() > 1e-3


def test_what_is_masked_is_out_of_reach_even_if_all_is():
  """A prompt that no row uses must not turn into NaN."""
  assert np.isfinite(layers.MASKED)
  made, (tuned, frozen) = tuned_model('pythia'), halves('pythia')
  given = batch('pythia', front=np.zeros(B, int))
  assert np.isfinite(logits_of(made, tuned, frozen, given)).all()


@pytest.mark.parametrize('case', FAMILIES)
def test_one_beam_is_greedy_and_more_find_likelier_answers(case):
  """Scored by the whole model; the prompt is read by every beam."""
  made, (tuned, frozen) = tuned_model(case), halves(case)
  given, end = batch(case), loaded(case).config.eos_id

  def said(sampler):
    run = answer.make_generate(made, sampler=sampler)
    return np.asarray(run(tuned, frozen, given, None, max_length=4))

  def nats(ids):
    ended = np.cumsum(ids == end, axis=1) - (ids == end) > 0
    row = given | {'targets': ids, 'target_mask': ~ended}
    run = step.make_log_probs(made)
    return np.asarray(run(tuned, frozen, row)[0])

  greedy = said(sample.Greedy())
  one = said(beam.Beams(1, length_penalty=0.0))
  np.testing.assert_allclose(nats(one), nats(greedy), rtol=1e-5)
  many = said(beam.Beams(8, length_penalty=0.0))
  assert (nats(many) >= nats(greedy) - 1e-5).all()
  assert (nats(many) > nats(greedy) + 1e-3).any()
