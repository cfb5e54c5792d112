"""When a CPU computes in its faster way, and that the numbers are the same."""

import platform
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ptjax import assemble, cpu
from ptjax import config as config_lib
from ptjax.data import batch as batch_lib
from ptjax.data.batch import Encoded

GAINS = {'devices': 1, 'dtype': jnp.float32, 'features': cpu.WIDE}

there = pytest.mark.skipif(
  not cpu.options(), reason='this jaxlib has no oneDNN'
)


def test_jax_has_it_on_usual_machines():
  if (sys.platform, platform.machine()) == ('linux', 'x86_64'):
    assert cpu.options()


@there
def test_it_is_fast_where_that_gains_and_can_be():
  assert cpu.fast('auto', 'cpu', **GAINS)
  assert cpu.fast('fast', 'cpu', **GAINS | {'features': 8})
  for other in ({'devices': 2}, {'dtype': jnp.bfloat16}):
    assert not cpu.fast('fast', 'cpu', **GAINS | other)
  assert not cpu.fast('auto', 'cpu', **GAINS | {'features': 511})
  assert not cpu.fast('fast', 'tpu', **GAINS)
  assert not cpu.fast('plain', 'cpu', **GAINS)


@pytest.mark.parametrize(
  'name,value',
  # It has no such option; it has, but not the library.
  [('xla_cpu_use_no_such_library', True), ('xla_cpu_use_onednn', False)],
)
def test_a_jax_without_it_is_left_as_it_is(name, value, monkeypatch):
  monkeypatch.setattr(cpu, '_ONEDNN', {name: value})
  cpu.options.cache_clear()
  try:
    assert cpu.options() is None
    assert not cpu.fast('fast', 'cpu', **GAINS)
  finally:
    cpu.options.cache_clear()


def test_a_misspelled_way_is_refused(call, tmp_path):
  code, _, said = call(
    '--config=configs/superglue.py:cpu=quick', f'--workdir={tmp_path}'
  )
  assert code == 2
  assert "cpu='quick'" in said and 'auto, fast, plain' in said


@there
def test_that_programs_are_not_kept_is_no_warning(tmp_path):
  cpu.options.cache_clear()
  product = jax.jit(lambda x: jnp.tanh(x @ x), compiler_options=cpu.options())
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
  """The parts of one run, plain and fast."""
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
      config_lib.update(config_lib.default(), named | {'cpu': way})
    )
    for way in ('plain', 'fast')
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
def test_a_fast_run_computes_what_a_plain_one_does(two):
  plain, _ = two
  one = jax.tree.map(lambda x: np.stack([x, x]), rows())
  states, texts = [], []
  for made in two:
    tuned, frozen = made.init()
    lowered = made.placed_step.lower(made.state(tuned), frozen, one)
    texts.append(lowered.compile().as_text())
    state, metrics = made.train_step(made.state(tuned), frozen, one)
    states.append((state.tuned, metrics['loss'], metrics['grad_norm']))
  assert ['__onednn_fusion' in text for text in texts] == [False, True]
  looped, unrolled = (text.count(' while(') for text in texts)
  assert unrolled < looped
  close = dict(rtol=2e-5, atol=2e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), *states)

  tuned, frozen = plain.init()
  scores = [made.choices(tuned, frozen, rows()) for made in two]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), *scores)

  free = {k: v for k, v in rows().items() if not k.startswith('choice')}
  said = [made.answers(tuned, frozen, free, max_length=4) for made in two]
  np.testing.assert_array_equal(*said)
  assert len(np.unique(said[0])) > 1
