"""When a CPU's products are oneDNN's, and that a run then computes the same."""

import platform
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ptjax import assemble, onednn, tree
from ptjax import config as config_lib
from ptjax.data import batch as batch_lib
from ptjax.data.batch import Encoded

GAINS = {'devices': 1, 'dtype': jnp.float32, 'features': onednn.WIDE}

there = pytest.mark.skipif(
  platform.machine() not in ('x86_64', 'AMD64') or not onednn._known(),
  reason='this jaxlib has no oneDNN',
)


@there
def test_it_is_taken_where_it_is_faster_and_can_be():
  assert onednn.options('auto', 'cpu', **GAINS)
  assert onednn.options('on', 'cpu', **GAINS | {'features': 8})
  for other in ({'devices': 2}, {'dtype': jnp.bfloat16}):
    assert onednn.options('on', 'cpu', **GAINS | other) is None
  assert onednn.options('auto', 'cpu', **GAINS | {'features': 511}) is None
  assert onednn.options('on', 'tpu', **GAINS) is None
  assert onednn.options('off', 'cpu', **GAINS) is None


def test_a_jax_without_such_options_is_left_as_it_is(monkeypatch):
  monkeypatch.setattr(onednn, '_OPTIONS', {'xla_cpu_use_no_such_library': True})
  onednn._known.cache_clear()
  try:
    assert onednn.options('on', 'cpu', **GAINS) is None
  finally:
    onednn._known.cache_clear()


def test_a_misspelled_choice_is_refused(call, tmp_path):
  code, _, said = call(
    '--config=configs/superglue.py:onednn=yes', f'--workdir={tmp_path}'
  )
  assert code == 2
  assert "onednn='yes'" in said and 'auto, on, off' in said


@there
def test_that_programs_are_not_kept_is_no_warning(tmp_path):
  onednn._known.cache_clear()
  options = onednn.options('on', 'cpu', **GAINS)
  product = jax.jit(lambda x: jnp.tanh(x @ x), compiler_options=options)
  kept = {
    'jax_persistent_cache_min_compile_time_secs': 0,
    'jax_compilation_cache_dir': str(tmp_path),
  }
  before = {name: getattr(jax.config, name) for name in kept}
  with warnings.catch_warnings(record=True) as said:
    for name, value in kept.items():
      jax.config.update(name, value)
    try:
      product(jnp.ones((40, 40)))
    finally:
      for name, value in before.items():
        jax.config.update(name, value)
  assert not [str(w.message) for w in said]


# Each test begins with filters of its own.
quiet = pytest.mark.filterwarnings('ignore:.*persistent compilation')


@pytest.fixture(params=['t5', pytest.param('gpt', marks=pytest.mark.full)])
def two(request, tmp_path):
  """The parts of one run, without and with oneDNN."""
  made = {'t5': tiny.model_folder, 'gpt': tiny.gpt_folder}[request.param]
  named = {
    'model': str(made(tmp_path)),
    'method.length': 5,
    'method.init': 'vocabulary',
    'method.population': 20,
    'population.seeds': 2,
    'dtype': 'float32',
  }
  return [
    assemble.parts(
      config_lib.update(config_lib.default(), named | {'onednn': asked})
    )
    for asked in ('off', 'on')
  ]


def rows():
  rng = np.random.default_rng(3)
  drawn = [
    Encoded(
      rng.integers(2, 30, 7 + i),
      rng.integers(2, 30, 3),
      tuple(rng.integers(2, 30, 2 + j) for j in range(3)),
    )
    for i in range(4)
  ]
  return batch_lib.make(drawn, range(4), shape=(12, 4), choices=3)


@there
@quiet
def test_a_run_computes_what_it_does_without_it(two):
  off, _ = two
  one = jax.tree.map(lambda x: np.stack([x, x]), rows())
  states, texts = [], []
  for made in two:
    tuned, frozen = made.init()
    lowered = made.placed_step.lower(made.state(tuned), frozen, one)
    texts.append(lowered.compile().as_text())
    state, metrics = made.train_step(made.state(tuned), frozen, one)
    states.append((state.tuned, metrics['loss'], metrics['grad_norm']))
  assert ['__onednn_fusion' in text for text in texts] == [False, True]
  close = dict(rtol=2e-5, atol=2e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), *states)

  tuned, frozen = off.init()
  scores = [made.choices(tuned, frozen, rows()) for made in two]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), *scores)
  alone = tree.at(tuned, 1)
  sums = [made.log_probs(alone, frozen, rows())[0] for made in two]
  np.testing.assert_allclose(*sums, **close)

  free = {k: v for k, v in rows().items() if not k.startswith('choice')}
  said = [made.answers(tuned, frozen, free, max_length=4) for made in two]
  np.testing.assert_array_equal(*said)
  assert len(np.unique(said[0])) > 1
