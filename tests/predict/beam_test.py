"""Beam search: transformers' answers by every model, and the best of all."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goldens import beams as t5_beams
from goldens import causal_models, t5_models

from ptjax.models import causal, t5
from ptjax.predict import beam, sample
from ptjax.weights import load

# All settings are the longest tier's; one is everybody's.
SETTINGS = [
  pytest.param(setting, marks=[pytest.mark.full] if number else [])
  for number, setting in enumerate(causal_models.BEAMS)
]


def settings(number, penalty, early):
  return beam.Beams(number, length_penalty=penalty, early_stopping=early)


@functools.cache
def loaded(folder) -> load.Loaded:
  return load.load(str(folder))


@pytest.mark.parametrize('setting', SETTINGS, ids=str)
@pytest.mark.parametrize('case', ('gpt2', 'pythia', 'llama'))
def test_a_gpt_answers_as_in_transformers(case, setting):
  held = loaded(causal_models.FOLDER / case)
  golden = np.load(causal_models.FOLDER / case / 'golden.npz')
  given, config = causal_models.questions(), held.config

  @jax.jit
  def run(params):
    apply = functools.partial(held.model.apply, {'params': params})
    logits, cache = apply(
      given['ids'],
      given['mask'],
      max_length=causal_models.STEPS,
      method='prefill',
    )
    return beam.generate(
      functools.partial(apply, method='decode_step'),
      cache,
      beams=settings(*setting),
      batch_axes=causal.CACHE_BATCH_AXES,
      batch_size=4,
      eos_id=config.eos_id,
      pad_id=config.pad_id,
      max_length=causal_models.STEPS,
      first_BxV=logits,
    )

  expected = golden[t5_beams.name(setting)]
  np.testing.assert_array_equal(run(held.params), expected)


@pytest.mark.parametrize('setting', SETTINGS, ids=str)
@pytest.mark.parametrize('case', t5_beams.CASES)
def test_a_t5_answers_as_in_transformers(case, setting):
  held = loaded(t5_models.FOLDER / case)
  golden = np.load(t5_models.FOLDER / case / 'beams.npz')
  config = held.config
  given = t5_models.inputs(config.vocab_size)

  @jax.jit
  def run(params):
    apply = functools.partial(held.model.apply, {'params': params})
    encoded = apply(given['ids'], given['mask'], method='encode')
    cache = apply(
      encoded, given['mask'], max_length=t5_beams.STEPS, method='init_cache'
    )
    return beam.generate(
      functools.partial(apply, method='decode_step'),
      cache,
      beams=settings(*setting),
      batch_axes=t5.CACHE_BATCH_AXES,
      batch_size=3,
      start_id=config.decoder_start_id,
      eos_id=config.eos_id,
      pad_id=config.pad_id,
      max_length=t5_beams.STEPS,
    )

  expected = golden[t5_beams.name(setting)]
  np.testing.assert_array_equal(run(held.params), expected)


def test_the_recorded_answers_say_something():
  """Not greedy's, not one for all settings, and some end before the length."""
  found = {
    case: np.load(causal_models.FOLDER / case / 'golden.npz')
    for case in ('gpt2', 'pythia', 'llama')
  }
  for case, golden in found.items():
    answers = [
      golden[t5_beams.name(setting)] for setting in causal_models.BEAMS
    ]
    assert (answers[0] != golden['greedy']).any(), case
    assert any((answers[0] != other).any() for other in answers[1:]), case
    eos_id = loaded(causal_models.FOLDER / case).config.eos_id
    assert (np.stack(answers)[..., :-1] == eos_id).any(), case


# A model of one token's memory, and the logits behind each; 1 is EOS.
TABLE_VxV = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32) * 2


def chain(ids, cache):
  return jnp.asarray(TABLE_VxV)[ids], cache | {'t': cache['t'] + 1}


def search(beams, **changes):
  arguments = dict(batch_size=2, start_id=0, eos_id=1, pad_id=0, max_length=4)
  return beam.generate(
    chain,
    {'row': jnp.arange(2), 't': jnp.int32(0)},
    beams=beams,
    batch_axes={'row': 0, 't': None},
    **(arguments | changes),
  ).tolist()


def score(ids) -> float:
  """The log-probability of an answer, up to its end."""
  log_probs = np.asarray(jax.nn.log_softmax(jnp.asarray(TABLE_VxV)))
  total, before = 0.0, 0
  for i in ids:
    total, before = total + log_probs[before, i], i
    if i == 1:
      break
  return total


def test_with_beams_enough_it_is_the_best_of_all_answers():
  answers = set()
  for ids in itertools.product(range(4), repeat=4):
    end = ids.index(1) + 1 if 1 in ids else 4
    answers.add(ids[:end] + (0,) * (4 - end))
  best = max(answers, key=score)
  assert search(beam.Beams(64, length_penalty=0.0)) == [list(best)] * 2


def test_one_beam_is_greedy():
  greedy = sample.generate(
    chain,
    {'t': jnp.int32(0)},
    batch_size=2,
    start_id=0,
    eos_id=1,
    pad_id=0,
    max_length=9,
  )
  assert search(beam.Beams(1), max_length=9) == greedy.tolist()


def test_a_long_answer_is_favoured_by_its_penalty():
  lengths = [
    sum(np.cumprod(np.array(search(beam.Beams(8, penalty))[0]) != 1))
    for penalty in (-4.0, 4.0)
  ]
  assert lengths[0] < lengths[1]


def test_a_row_is_closed_when_no_beam_is_better_than_its_finished():
  """Even if a longer answer would be favoured later on: transformers does."""
  table = np.full((4, 4), -9.0, np.float32)
  table[0, 1], table[0, 2], table[2, 2] = 1.0, 0.5, 9.0

  def step(ids, cache):
    return jnp.asarray(table)[ids], cache

  found = beam.generate(
    step,
    {},
    beams=beam.Beams(1, length_penalty=3.0),
    batch_axes={},
    batch_size=1,
    eos_id=1,
    pad_id=0,
    max_length=6,
  )
  assert found.tolist() == [[1, 0, 0, 0, 0, 0]]


def test_no_beam_is_refused():
  with pytest.raises(ValueError, match='number >= 1'):
    beam.Beams(0)
