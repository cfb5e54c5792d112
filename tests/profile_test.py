"""A trace is of the steps that were asked for, and of no others."""

import jax.numpy as jnp
import pytest

from ptjax import profile


@pytest.fixture
def profiler(monkeypatch):
  calls = []
  fake = profile.jax.profiler
  monkeypatch.setattr(fake, 'start_trace', lambda f: calls.append(('start', f)))
  monkeypatch.setattr(fake, 'stop_trace', lambda: calls.append('stop'))
  return calls


def run(profiler, tmp_path, *, steps, calls):
  said = []

  def step(x):
    profiler.append('step')
    return jnp.add(x, 1)

  with profile.Trace(steps, tmp_path, say=said.append) as trace:
    for _ in range(calls):
      trace(step, 0)
  return said


def test_it_begins_behind_what_compiles(profiler, tmp_path):
  said = run(profiler, tmp_path, steps=2, calls=6)
  start = ('start', tmp_path)
  steps = ['step', 'step']
  assert profiler == [*steps, start, *steps, 'stop', *steps]
  assert said == [f'{tmp_path}: a trace of 2 steps']


def test_a_run_that_ends_first_ends_it(profiler, tmp_path):
  said = run(profiler, tmp_path, steps=5, calls=3)
  assert profiler[-2:] == ['step', 'stop']
  assert said == [f'{tmp_path}: a trace of 1 step']


def test_none_is_none(profiler, tmp_path):
  assert run(profiler, tmp_path, steps=0, calls=4) == []
  assert profiler == ['step'] * 4
