"""Every mesh gives the numbers of one device; what cannot be cut is refused."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import sharded
import tiny

from ptjax import checks, mesh
from ptjax import config as config_lib
from ptjax.config import UserError

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Eight devices; and less work for the compiler, whose time this is.
FLAGS = (
  '--xla_force_host_platform_device_count=8 '
  '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
)


SHAPES = [(8, 1, 1), (2, 4, 1), (2, 2, 2), (1, 1, 8)]


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  return sharded.make_room(tmp_path_factory.mktemp('mesh'))


@pytest.fixture(scope='module')
def alone(room):
  """The numbers of each model on this process's one device."""
  found = {}

  def of(model):
    if model not in found:
      assert jax.device_count() == 1
      found[model] = sharded.run(sharded.config(room, model=str(room / model)))
    return found[model]

  return of


def on_eight(room, model, shape, **options):
  """(numbers, stdout) of the same on so many devices, in another process."""
  given = {
    'room': str(room),
    'mesh': shape,
    'changes': {'model': str(room / model)},
    'out': str(room / 'out.npz'),
    **options,
  }
  path = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
  done = subprocess.run(
    [sys.executable, '-m', 'tests.sharded', json.dumps(given)],
    env={**os.environ, 'XLA_FLAGS': FLAGS, 'PYTHONPATH': path},
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=1800,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  with np.load(room / 'out.npz') as file:
    return dict(file), done.stdout


def check_same(found, want):
  """Ids to the last one, numbers to 1e-5 of the largest of their array."""
  assert found.keys() == want.keys()
  worst = 0.0
  for name, value in want.items():
    if name.startswith('ids'):
      np.testing.assert_array_equal(found[name], value, name)
    else:
      assert found[name].shape == value.shape
      size, apart = np.abs(value).max(), np.abs(found[name] - value).max()
      # Of what begins at zero: none.
      assert apart <= 1e-5 * size, (name, apart, size)
      worst = max(worst, apart / size if size else 0.0)
  print(f'largest difference {worst:.1e}')


def check_moved(want, *, by=0.05, pieces=3):
  """That the numbers could differ at all."""
  assert np.abs(want['tuned'] - want['start']).max() > by
  assert np.abs(want['gradient'][0] - want['gradient'][1]).max() > 0.01
  assert len(np.unique(want['ids/0'])) >= pieces


def check_goes_on(found, want):
  """What was resumed says what was not interrupted."""
  rest = {'steps': want['steps'][sharded.SAVED :], 'tuned': want['tuned']}
  check_same(found, rest)


def full(*values):
  return pytest.param(*values, marks=pytest.mark.full)


@pytest.mark.parametrize(
  'shape', [(2, 4, 1), (2, 2, 2), full((8, 1, 1)), full((1, 1, 8))]
)
def test_t5_is_the_same_on_eight_devices(room, alone, shape):
  """Loss, gradient, ten steps, greedy ids and rank scores of two members."""
  wants = shape == (2, 4, 1)
  found, said = on_eight(room, 't5', shape, collectives=wants)
  want = alone('t5')
  check_moved(want)
  check_same(found, want)
  if not wants:
    return
  # Of weights that are cut over fsdp: kernels are gathered, one layer at a
  # time; neither the vocabulary (64 pieces) nor the rows of a layer are.
  sent = json.loads(said)
  kernels = [
    shape
    for kind, shape, source in sent['step']
    if kind == 'all-gather' and '/layers/' in source
  ]
  assert len(kernels) > 20
  whole = 'f32[24,40]', 'f32[40,24]'
  by_head = 'f32[8,5,24]', 'f32[8,24,5]'  # where few targets are absorbed
  assert all(shape.startswith((*whole, *by_head)) for shape in kernels)
  assert not [shape for _, shape, _ in sent['step'] if '64' in shape]
  assert {kind for kind, _, _ in sent['step']} == {'all-gather', 'all-reduce'}
  # And a plan of this run names these, no less and no more.
  step, plan = (sorted(x[:2] for x in sent[name]) for name in ('step', 'plan'))
  assert step == plan


@pytest.mark.parametrize(
  'model,shape',
  [
    ('gpt2', (2, 2, 2)),
    *(full('gpt2', shape) for shape in ((8, 1, 1), (2, 4, 1), (1, 1, 8))),
    *(full('neox', shape) for shape in SHAPES),
    *(full('llama', shape) for shape in SHAPES),
  ],
)
def test_causal_models_are_the_same_on_eight_devices(room, alone, model, shape):
  """Whose prompt is one that all rows read, and is not cut with them.

  A checkpoint on the way goes on on one device.
  """
  saved = str(room / f'{model}{shape}')
  found, _ = on_eight(room, model, shape, saved=saved)
  want = alone(model)
  check_moved(want)
  check_same(found, want)
  one = sharded.config(room, model=str(room / model))
  check_goes_on(sharded.resumed(one, saved), want)


@pytest.mark.full
@pytest.mark.parametrize(
  'model,method',
  [
    ('t5', 'prefix_tuning'),
    ('t5', 'lora'),
    ('t5', 'ia3'),
    ('t5', 'bitfit'),
    ('t5', 'adapters'),
    ('t5', 'input_tuning'),
    ('t5', 'model_tuning'),
    ('llama', 'prefix_tuning'),
    ('gpt2', 'lora'),
  ],
)
def test_every_kind_of_port_is_the_same_on_eight_devices(room, model, method):
  """Beside what a mesh cuts ports lie whole, and what they add is cut.

  What has trained is compared by its norm: where a gradient is next to nothing,
  Adam makes a step of its rounding.
  """
  # All weights at once would go far at the rate of a few.
  rate = 0.001 if method == 'model_tuning' else 0.03
  told = {
    'model': str(room / model),
    'method.name': method,
    'optimizer.lr': rate,
  }
  found, _ = on_eight(room, model, (2, 2, 2), changes=told)
  want = sharded.run(sharded.config(room, **told))
  check_moved(want, by=2 * rate, pieces=2)
  ours, other = found.pop('tuned'), want.pop('tuned')
  apart = np.linalg.norm(ours - other) / np.linalg.norm(other)
  print(f'\n{model}, {method}: what trained {apart:.1e}')
  assert apart < 1e-4
  check_same(found, want)


@pytest.mark.full
@pytest.mark.parametrize(
  'model,first,second',
  [
    ('t5', (2, 4, 1), (1, 1, 8)),
    ('gpt2', (8, 1, 1), (2, 2, 2)),
    ('neox', (1, 1, 8), (2, 4, 1)),
    ('llama', (2, 2, 2), (8, 1, 1)),
  ],
)
def test_a_checkpoint_goes_on_on_another_mesh(
  room, alone, model, first, second
):
  saved = str(room / f'{model}{first}{second}')
  on_eight(room, model, first, saved=saved)
  found, _ = on_eight(room, model, second, saved=saved, resumes=True)
  check_goes_on(found, alone(model))


def test_sizes_are_what_is_said_and_the_rest():
  for said, want in (
    ({}, (8, 1, 1)),
    ({'fsdp': 4}, (2, 4, 1)),
    ({'fsdp': 2, 'tensor': 2}, (2, 2, 2)),
    ({'data': 1, 'fsdp': -1}, (1, 8, 1)),
    ({'data': 2, 'fsdp': 1, 'tensor': 4}, (2, 1, 4)),
  ):
    settings = {'data': -1, 'fsdp': 1, 'tensor': 1, **said}
    assert mesh.sizes(settings, 8) == want


@pytest.mark.parametrize(
  'said,sentence',
  [
    ({'tensor': 3}, 'but there are 8; each size can be one of 1, 2, 4, 8'),
    ({'data': 2}, 'that is 2 devices, but there are 8'),
    ({'data': 4, 'fsdp': 4}, 'that is 16 devices, but there are 8'),
    ({'fsdp': -1}, 'one of them may be -1'),
    ({'fsdp': 0}, 'sizes are from 1'),
  ],
)
def test_a_mesh_that_does_not_divide_the_devices_is_refused(said, sentence):
  settings = {'data': -1, 'fsdp': 1, 'tensor': 1, **said}
  with pytest.raises(UserError, match=sentence):
    mesh.sizes(settings, 8)


def test_more_devices_than_there_are_is_told_before_anything():
  c = config_lib.update(config_lib.default(), {'mesh.tensor': 2})
  with pytest.raises(UserError, match='but there are 1; each size can be .* 1'):
    checks.check(c)


def test_what_does_not_divide_the_model_or_the_batch_is_refused():
  named = mesh.logical_axes(tiny.t5()[0])  # 3 heads of 5, width 24, mlp of 36
  for shape, sentence in (
    ((1, 1, 2), 'mesh.tensor=2 does not divide the 3 heads .* it can be 1$'),
    ((1, 16, 1), 'mesh.fsdp=16 does not divide the 24 features .* 1, 2, 4, 8$'),
  ):
    with pytest.raises(UserError, match=sentence):
      mesh._check_sizes(jax.sharding.AbstractMesh(shape, mesh.AXES), named)
  for rows, micro, sentence in (
    (12, 1, 'x=12 is not a multiple of 8, .* it can be 8 or 16'),
    (24, 2, '8 times 2 micro-batches, .* it can be 16 or 32'),
    (4, 1, 'it can be 8, or make mesh.tensor larger'),
  ):
    with pytest.raises(UserError, match=sentence):
      mesh._check_rows('x', rows, 8, micro)
  mesh._check_rows('x', 32, 8, 2)


def test_a_vocabulary_that_does_not_divide_lies_whole():
  sizes = {'data': 1, 'fsdp': 2, 'tensor': 2}
  axes = ('vocab', 'embed')
  assert mesh.spec(axes, (64, 24), sizes) == (('tensor', 'fsdp'), None)
  assert mesh.spec(axes, (62, 24), sizes) == (('tensor',), None)
  assert mesh.spec(axes, (61, 24), sizes) == (None, None)
  kernel = ('layers', 'embed', 'qkv', 'heads', 'kv')
  cut = (None, ('fsdp',), None, ('tensor',), None)
  assert mesh.spec(kernel, (2, 24, 3, 8, 5), sizes) == cut
  assert mesh.spec(('layers', 'embed'), (2, 24), sizes) == (None, None)


@pytest.mark.full
@pytest.mark.parametrize('model', ['t5', 'gpt2'])
def test_eight_bits_are_the_same_on_eight_devices(room, model):
  """Each has rounded its own part, by scales of whole inputs."""
  told = {'model': str(room / model), 'weights': 'int8'}
  found, _ = on_eight(room, model, (2, 2, 2), changes=told)
  want = sharded.run(sharded.config(room, **told))
  check_moved(want)
  check_same(found, want)
