"""A plan of a tiny run: by the estimate, and compiled where libtpu is."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
import tiny

from plan import sent
from ptjax import assemble, memory, mesh
from ptjax.plan import (
  ahead,
  apart,
  cost,
  nearest,
  run,
  sizes,
  steps,
  targets,
  tell,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Heads for eight devices; a vocabulary that they cut.
T5 = tiny.changed(num_heads=8, d_ff=40, vocab_size=64)

needs_compiler = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason="libtpu is not installed: pip install -e '.[plan]'",
)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  return tiny.model_folder(tmp_path_factory.mktemp('plan') / 't5', T5)


def test_gpus_are_planned_by_the_estimate(model, capsys):
  (found,) = run.run(sent.config(str(model)), 'h100:8')
  assert found.fits and found.change is None
  train = found.fact('train')
  assert train.compiled is None and train.about > 0
  said = capsys.readouterr().out
  assert 'mesh data 2 x fsdp 4 x tensor 1' in said
  assert 'estimated' in said and 'chip-hours' in said


def test_layers_keep_what_the_run_would_on_the_target(model):
  """Of all members at once, as no CPU has them, and of its own limit."""
  told = {'population.seeds': 4, 'train.batch_size': 32, 'input_length': 256}
  told |= {'eval.batch_size': 32, 'plan.functions': ('train',)}
  c = sent.config(str(model), shape=(1, 1, 1), **told)
  made = assemble.outlined(c, mesh.abstract(c, 1, platform='gpu'))
  one = made.member_bytes(length=256, target=4, remat='products')
  for gib, kept in ((2 * one / memory.GIB, 'full'), (0, 'products')):
    limited = run._changed(c, {'population.memory': gib})
    (found,) = run.run(limited, 'h100')
    assert found.config.remat == kept


def test_operations_are_those_of_every_layer(model):
  """By hand: two encoder and three decoder layers, head, backward."""
  layout = mesh.abstract(sent.config(str(model)), 8, platform='gpu')
  made = assemble.outlined(sent.config(str(model)), layout)
  found = steps.trace(made, 'train').work
  B, J, T = 8, 5 + 24, 4
  D, H, K, F, V = 24, 8, 5, 40, 64
  inner = H * K
  encoder = 2 * B * J * (4 * D * inner + 3 * D * F)
  decoder = 2 * B * T * (4 * D * inner + 2 * D * inner + 3 * D * F)
  cross = 2 * B * J * 2 * D * inner
  head = 2 * B * T * D * V
  scores = 4 * B * inner * (2 * J * J + 3 * (T * T + T * J))
  once = 2 * encoder + 3 * (decoder + cross) + head
  # Frozen products are done once more backward, those of activations twice.
  assert found.operations == pytest.approx(2 * once + 3 * scores, rel=0.01)


def test_what_does_not_fit_is_told_with_the_nearest_that_does(
  model, monkeypatch, capsys
):
  whole = {'mesh.data': 8, 'mesh.fsdp': 1, 'plan.functions': ('train',)}
  c = sent.config(str(model), **whole)
  (found,) = run.run(c, 'a100:8')
  assert found.fits
  # Of which jax takes three quarters.
  small = dataclasses.replace(
    targets.CHIPS['a100'], memory=found.fact('train').peak
  )
  monkeypatch.setitem(targets.CHIPS, 'a100', small)
  (found,) = run.run(c, 'a100:8')
  assert not found.fits
  assert found.change.plan.fits
  cut = {'mesh.data': 4, 'mesh.fsdp': 1, 'mesh.tensor': 2}
  more = {'remat': 'products', 'train.accumulate': 2}
  assert found.change.words == {**cut, **more}
  said = capsys.readouterr().out
  assert 'train does not fit; the nearest that does (by the estimate): ' in said
  monkeypatch.setitem(
    targets.CHIPS, 'a100', dataclasses.replace(small, memory=1000)
  )
  (found,) = run.run(c, 'a100:8')
  assert found.change is None
  assert 'take more chips' in capsys.readouterr().out


def test_an_estimate_does_not_rule_out_what_is_faster(model, monkeypatch):
  """`products` loses less than `linear`, and its estimate is the higher one."""
  told = {'mesh.data': 1, 'mesh.fsdp': 8, 'plan.functions': ('train',)}
  c = sent.config(str(model), remat='none', **told)
  layout = mesh.abstract(c, 8, platform='tpu')

  def temporary(policy):
    changed = run._changed(c, {'remat': policy})
    return sizes.temporary(assemble.outlined(changed, layout))

  weights = sizes.weights(assemble.outlined(c, layout))
  between = (temporary('products') + temporary('linear')) // 2
  limit = weights + between
  compiled = []

  def fact(made, target, step):
    """A compiler of a third less than the estimate."""
    if step.name == 'train':
      compiled.append(made.config.remat)
    peak = weights + int(sizes.temporary(made) / 1.3)
    held = ahead.Compiled(weights, 0, peak, limit if peak > limit else 0)
    work = cost.Share(1, 1)
    return tell.Fact(step.name, work, weights, 1, held, fits=held.fits)

  monkeypatch.setattr(ahead, 'check', lambda: None)
  monkeypatch.setattr(run, '_devices', lambda target: None)
  monkeypatch.setattr(run, '_fact', fact)
  small = dataclasses.replace(targets.CHIPS['v5e'], memory=limit)
  monkeypatch.setitem(targets.CHIPS, 'v5e', small)
  monkeypatch.setattr(apart.Apart, 'ask', lambda self, _, f, *args: f(*args))
  (found,) = run.run(c, 'v5e:2x4')
  assert not found.fits and compiled == ['none', 'products']
  assert found.change.words == {'remat': 'products'}


@pytest.mark.parametrize(
  'trains_in,rows,want',
  [
    (1, 16, {'eval.batch_size': 16}),
    (2, 8, {'train.accumulate': 2, 'eval.batch_size': 8}),
    (1, 4, None),  # which eight devices do not divide
  ],
)
def test_an_evaluation_that_does_not_fit_has_fewer_rows(
  model, trains_in, rows, want, monkeypatch
):
  """Whatever trains: nothing else is changed for it."""
  c = sent.config(str(model), **{'mesh.data': 2, 'mesh.fsdp': 4})
  c.eval.batch_size, c.train.batch_size = 64, 16
  asked = []

  def fact(made, target, step):
    c = made.config
    asked.append((step.name, c.train.accumulate, c.eval.batch_size))
    fits = {
      'train': c.train.accumulate >= trains_in,
      'decode': c.eval.batch_size <= rows,
    }[step.name]
    return tell.Fact(step.name, cost.Share(1, 1), 1, 1, fits=fits)

  monkeypatch.setattr(run, '_fact', fact)
  monkeypatch.setattr(
    nearest, 'changes', lambda *_: [{'train.accumulate': 2}] * (trains_in > 1)
  )
  (found,) = run.run(c, 'h100:8')
  assert not found.fits
  assert (found.change and found.change.words) == want
  assert len(asked) == len(set(asked))  # nothing twice
  if want:
    assert found.change.plan.fits
    assert [f.name for f in found.change.plan.facts] == ['train', 'decode']


@pytest.mark.parametrize(
  'words,said',
  [
    (('--target=v9:2x2',), 'targets are v4:2x2x2'),
    ((), '--mode=plan needs --target='),
    (('--target=h100:3', '--config.mesh.fsdp=2'), 'there are 3'),
    (('--target=h100', '--workdir=x'), '--workdir does nothing'),
    (('--target=h100', '--config.plan.members=(0,)'), 'prompts are from 1'),
  ],
)
def test_a_mistake_is_one_sentence(call, words, said):
  file = '--config=configs/superglue.py'
  code, _, stderr = call(file, '--mode=plan', *words)
  assert code == 2 and said in stderr
  assert len(stderr.strip().splitlines()) == 1


def test_without_the_compiler_the_line_that_installs_it(call, monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    'find_spec',
    lambda name: None if name == 'libtpu' else find(name),
  )
  code, _, stderr = call(
    '--config=configs/superglue.py', '--mode=plan', '--target=v5e:2x4'
  )
  assert code == 2
  assert "pip install -e '.[plan]'" in stderr


# Rows and weights cut; layers too.
MESHES = [(2, 4, 1), (2, 2, 2)]


def test_steps_send_on_eight_devices_what_the_plan_names(model):
  """Compiled for virtual ones, in a process that has as many."""
  env = {
    'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tests')]),
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8 '
    '--xla_backend_optimization_level=0',
  }
  given = json.dumps({'model': str(model), 'meshes': MESHES})
  done = subprocess.run(
    [sys.executable, '-m', 'tests.plan.sent', given],
    env={**os.environ, **env},
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  for shape, found in zip(MESHES, json.loads(done.stdout), strict=True):
    sent.check(found, shape, T5)


@needs_compiler
@pytest.mark.parametrize('shape', MESHES)
def test_steps_send_on_a_tpu_what_the_plan_names(model, shape):
  """Compiled for chips; kernels are gathered, never the vocabulary."""
  c = sent.config(str(model), shape)
  layout = mesh.make(c, ahead.devices(targets.parse('v5e:2x4')))
  sent.check(sent.of(c, layout), shape, T5)


@needs_compiler
def test_a_step_compiles_for_a_tpu(model, capsys):
  """By the command's own way, memory of a device and all."""
  c = sent.config(str(model), **{'plan.functions': ('train',)})
  (found,) = run.run(c, 'v5e:2x4')
  compiled = found.fact('train').compiled
  assert found.fits and compiled.fits
  assert 0 < compiled.arguments < compiled.peak < 2**24
  said = capsys.readouterr().out
  assert 'train sends: all-gather' in said and 'compiled' in said
