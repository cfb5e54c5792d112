"""The comparison with PEFT: a stand-in for its side, which needs no torch."""

import dataclasses
import functools
import importlib.util
import json

import jax
import numpy as np
import pytest

from ptjax import answer, parts, step
from ptjax.bench import __main__ as command
from ptjax.bench import (
  apart,
  causal,
  operations,
  our_side,
  peft_side,
  random_gpt,
  versus,
  versus_tables,
)
from ptjax.config import UserError

TINY = random_gpt.sizes(32, 2, 4, vocab_size=97)
COMPARED = causal.Causal()
CASE = versus.Case('tiny', 'float32', prompt=3, batch=2, input=6)


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
  monkeypatch.setitem(random_gpt.PYTHIA, 'tiny', TINY)
  monkeypatch.setattr(causal, 'ANSWER', 5)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('tiny')
  random_gpt.write(path, TINY)
  return path


@pytest.fixture
def ours(folder):
  return our_side.Ours(our_side.build(folder, dtype='float32', prompt=3))


class Plain:
  """The prompt in front of every row, by the model alone: PEFT's stand-in."""

  off = 0.0  # what is added to its losses

  def __init__(self, folder, *, dtype, prompt_PxD, device):
    assert device == 'cpu'
    made = our_side.build(folder, dtype=dtype, prompt=len(prompt_PxD))
    self.model, self.params = made.loaded.model, made.loaded.params
    self.prompt = prompt_PxD

  def begin(self):
    pass

  def loss(self, prompt, ids, said):
    P, V = len(self.prompt), TINY.vocab_size
    front = np.broadcast_to(np.arange(V, V + P), (len(ids), P))
    placed = np.concatenate([front, ids], axis=1)
    ports = {'token_embedder': {'prompt': prompt}}
    logits = self.model.apply(
      {'params': self.params, 'ports': ports}, placed, placed >= 0
    )
    logs = jax.nn.log_softmax(logits[:, :-1])[:, -said:]
    hit = np.take_along_axis(logs, ids[:, -said:, None], axis=-1)
    return -hit.mean() + self.off, logs

  def train(self, ids, said):
    def loss(prompt):
      _, logs = self.loss(prompt, ids, said)
      hits = jax.numpy.take_along_axis(logs, ids[:, -said:, None], axis=-1)
      return -hits.mean()

    value, slope = jax.value_and_grad(loss)(self.prompt)
    return value + self.off, np.linalg.norm(slope)

  def evaluate(self, ids, said):
    return self.loss(self.prompt, ids, said)[0]

  def generate(self, ids, count):
    start = ids.shape[1]
    for _ in range(count):
      _, logs = self.loss(self.prompt, np.c_[ids, ids[:, :1]], 1)
      ids = np.c_[ids, np.asarray(logs[:, -1]).argmax(-1)]
    return ids[:, start:]

  def wait(self, value):
    return jax.tree.map(np.asarray, value)

  def peak_bytes(self):
    return 4000


class Clock:
  """Seconds that pass only when a side waits for its work."""

  now = 0.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock(monkeypatch):
  found = Clock()

  def waits(seconds, real, self, value):
    found.now += seconds
    return real(self, value)

  for side, seconds in ((our_side.Ours, 2.0), (Plain, 6.0)):
    slow = functools.partial(waits, seconds, side.wait)
    monkeypatch.setattr(side, 'wait', lambda s, v, slow=slow: slow(s, v))
  monkeypatch.setattr(operations, 'rate', lambda dtype, clock: 1e9)
  return found


def run(plan, **options):
  """Both sides in this process, where they can be changed and counted."""
  return versus.run(COMPARED, plan, held=apart.Here, least=0, **options)


def test_every_work_says_the_same_and_its_ratio_is_of_the_pairs(clock):
  plan = versus.Plan((CASE,), causal.WORKS, repeats=2, memory=False)
  found = run(plan, peer=Plain, clock=clock)
  assert found['missing'] == ''
  assert [row['work'] for row in found['rows']] == list(causal.WORKS)
  for row in found['rows']:
    assert row['same'] <= 1e-4
    assert row['ours']['median'] == 2 and row['theirs']['median'] == 6
    assert row['times'] == {'min': 3, 'median': 3, 'max': 3}
    assert row['rate'] == 1e9
  assert found['rows'][3]['same'] == 0


@pytest.mark.parametrize('work', ['train-text', 'train-label', 'evaluate'])
def test_a_side_that_says_something_else_ends_it(work, clock, monkeypatch):
  monkeypatch.setattr(Plain, 'off', 0.01)
  plan = versus.Plan((CASE,), (work,), repeats=1, memory=False)
  with pytest.raises(RuntimeError, match=f'{work}: the sides differ by'):
    run(plan, peer=Plain, clock=clock)


def test_one_other_token_ends_it_in_float32_alone():
  theirs = np.array([[5, 6], [7, 8]])
  other = np.array([[[5, 6], [7, 9]]])
  assert COMPARED.compare(CASE, 'generate', theirs[None], theirs) == 0
  with pytest.raises(RuntimeError, match='differ by 0.25, more than 0'):
    COMPARED.compare(CASE, 'generate', other, theirs)
  near = dataclasses.replace(CASE, dtype='bfloat16')
  assert COMPARED.compare(near, 'generate', other, theirs) == 0.25


def test_not_a_number_is_not_the_same():
  nan = (np.float32('nan'), np.float32(1))
  with pytest.raises(RuntimeError):
    COMPARED.compare(CASE, 'train-label', nan, (1.0, 1.0))


def test_our_side_is_the_functions_of_a_run(ours, monkeypatch):
  made = ours._made
  assert isinstance(made, parts.Parts)
  assert made.config.train.loss == 'targets'
  assert ours._text.config.train.loss == 'text'
  assert made.tuned_model.once
  called = []

  def recorded(module, name):
    real = getattr(module, name)

    def make(*args, **kwargs):
      called.append(name)
      return real(*args, **kwargs)

    monkeypatch.setattr(module, name, make)

  for name in ('make_train_step', 'make_log_probs'):
    recorded(step, name)
  recorded(answer, 'make_answers')
  for work in causal.WORKS:
    COMPARED.call(ours, CASE, work)()
  assert called == [
    *['make_train_step'] * 2,
    *['make_log_probs', 'make_answers'],
  ]
  assert ours._state.step.tolist() == [2]
  ours.begin()
  assert ours._state.step.tolist() == [0]
  np.testing.assert_array_equal(
    ours._state.tuned['prompt']['encoder'][0], ours.prompt_PxD
  )


def test_the_random_model_never_ends(ours):
  """Its EOS is never the likeliest, so that both sides make all pieces."""
  ids = ours.wait(COMPARED.call(ours, CASE, 'generate')())
  assert ids.shape == (1, 2, 5) and (ids != TINY.eos_id).all()
  head = ours._frozen['model']['unembedder']['kernel']
  assert not np.asarray(head[:, TINY.eos_id]).any()
  assert np.asarray(head).std() > 0.01


def products(jaxpr, times=1):
  """Operations of all products of a program, those in its loops included."""
  from jax.extend import core

  total = 0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == 'dot_general':
      ((left, _), _) = eqn.params['dimension_numbers']
      inner = np.prod([eqn.invars[0].aval.shape[i] for i in left])
      total += 2 * times * int(np.prod(eqn.outvars[0].aval.shape) * inner)
    loops = eqn.params.get('length', 1)
    for inner in core.jaxprs_in_params(eqn.params):
      total += products(inner, times * loops)
  return total


@pytest.mark.parametrize('work', ['train-text', 'train-label'])
def test_the_forward_operations_are_those_of_the_program(work, ours):
  """Counted in the program itself, for the layers and the head."""
  made = ours._text if work == 'train-text' else ours._made
  said = CASE.input if work == 'train-text' else causal.LABEL
  rng = np.random.default_rng(0)
  ids = rng.integers(1, 97, (CASE.batch, CASE.input)).astype(np.int32)
  one = ours._batch(ids, said=1 if work == 'train-text' else said)
  tuned = jax.tree.map(lambda x: x[0], ours._state.tuned)
  model = made.tuned_model

  def forward(tuned):
    text = model.full_text(one) if work == 'train-text' else one
    return model.logits(tuned, ours._frozen, text)

  found = products(jax.make_jaxpr(forward)(tuned).jaxpr)
  counted, _ = causal.works_of(CASE, work)
  assert counted.forward(TINY) == found


def test_in_every_row_costs_what_plain_concatenation_costs(ours):
  once = ours._made.tuned_model
  plain = dataclasses.replace(once, once=False)
  ids = np.ones((CASE.batch, CASE.input), np.int32)
  tuned = jax.tree.map(lambda x: x[0], ours._state.tuned)
  one = ours._batch(ids, said=1)

  def forward(tuned):
    return plain.logits(tuned, ours._frozen, one)

  found = products(jax.make_jaxpr(forward)(tuned).jaxpr)
  # Without the last piece, which is to be said; one position a row is said.
  counted = operations.in_every_row(batch=2, prompt=3, length=5, said=1)
  assert counted.forward(TINY) == found


def test_the_backward_pass_is_for_activations_alone():
  work = operations.Work(tokens=10, scores=0, said=0)
  assert work.train(TINY) == 2 * work.forward(TINY)
  scores = operations.Work(tokens=0, scores=10, said=0)
  assert scores.train(TINY) == 3 * scores.forward(TINY)
  ours, theirs = COMPARED.count(CASE, 'generate')
  assert 0 < ours < theirs


def test_the_rate_is_of_what_the_clock_says():
  seconds = iter([0.0, 0.5, 1.0])
  found = operations.rate('float32', least=1.0, clock=lambda: next(seconds))
  assert found == 2 * 1024**3 * 2 / 1.0


def test_memory_is_each_sides_own_process(monkeypatch):
  seen = []

  def in_a_process(function, *args):
    seen.append(args[-1])
    return function(*args)

  # Not a process here: a stand-in's class cannot be sent to one.
  monkeypatch.setattr(apart, 'in_a_process', in_a_process)
  plan = versus.Plan((CASE,), ('train-label', 'evaluate'), repeats=1)
  first, second = run(plan, peer=Plain)['rows']
  assert seen == [None, Plain]
  assert first['theirs_bytes'] == 4000
  assert first['bytes'] > 100 * 2**20  # this whole process
  assert 'bytes' not in second


def test_for_memory_alone_the_sides_are_never_together(monkeypatch):
  """Which would need the memory of both."""

  def together(*_):
    raise AssertionError('both sides are built')

  peaks = {None: 2**30, Plain: 2**31}
  monkeypatch.setattr(
    apart, 'in_a_process', lambda function, *args: peaks[args[-1]]
  )
  plan = versus.Plan((CASE,), ('train-label', 'evaluate'), times=False)
  found = versus.run(COMPARED, plan, held=together, peer=Plain)
  first, second = found['rows']
  assert (first['bytes'], first['theirs_bytes']) == (2**30, 2**31)
  assert not {'bytes', 'ours', 'times'} & set(second)
  _, table = versus_tables.tell(
    {'machine': {**MACHINE, 'jax': '0'}, 'repeats': 5, **found}
  )
  assert '1.00 0.50 met' in ' '.join(table.splitlines()[2].split())


def test_a_process_begins_without_its_parents_memory():
  held = np.ones(400 * 2**20, np.uint8)
  assert apart.process_peak() > held.nbytes
  assert apart.in_a_process(apart.process_peak) < 300 * 2**20


def test_without_peft_its_side_is_left_out_and_said(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda name: None if name != 'torch' else name
  )
  assert peft_side.missing() == (
    "without PEFT's side, as peft, transformers are not installed: pip "
    "install 'ptjax[bench]'"
  )
  here = functools.partial(versus.run, held=apart.Here)
  monkeypatch.setattr(versus, 'run', here)
  flags = '--shapes=tiny --batch=2 --input=6 --prompt=3 --works=evaluate'
  flags += f' --repeats=1 --out={tmp_path}'
  assert command.main(['causal', *flags.split()]) == 0
  out = capsys.readouterr().out
  assert "without PEFT's side" in out and 'evaluate' in out
  (row,) = json.loads((tmp_path / 'causal.json').read_text())['rows']
  assert 'times' not in row and row['ours']['median'] > 0
  assert (tmp_path / 'causal.png').exists() or 'no picture' in out


@pytest.mark.parametrize(
  'flags,sentence',
  [
    (['--shapes=pythia-70'], "did you mean 'pythia-70m'?"),
    (['--dtype=float16'], "'float16'"),
    (['--works=train'], "'train'"),
    (['--input=3'], '--input=3 must hold an answer of 3 pieces'),
    (['--no-times', '--no-memory'], '--no-times leaves the memory of training'),
    (['--no-times', '--works=evaluate'], 'and have a work of training'),
    (['--members=2'], 'unrecognized arguments: --members=2'),
  ],
)
def test_a_wrong_flag_is_one_sentence(flags, sentence, capsys):
  assert command.main(['causal', *flags]) == 2
  out, err = capsys.readouterr()
  assert not out and err.startswith('ptjax: ') and err.count('\n') == 1
  assert sentence in err


def test_a_plan_suits_its_platform():
  cpu, gpu = causal.plan('cpu', {}), causal.plan('gpu', {})
  assert {case.dtype for case in cpu.cases} == {'float32'}
  assert len(cpu.cases) == len(set(cpu.cases)) == 8
  assert {case.model for case in gpu.cases} == {'pythia-70m', 'pythia-1.4b'}
  assert {case.dtype for case in gpu.cases} == {'float32', 'bfloat16'}
  with pytest.raises(UserError, match='did you mean'):
    causal.plan('cpu', {'dtypes': ['bfloat']})


@pytest.mark.parametrize(
  'platform,case,work,least',
  [
    ('cpu', ('float32', 100, 32, 32), 'train-label', 6.0),
    ('cpu', ('float32', 100, 32, 32), 'train-text', 4.0),
    ('cpu', ('float32', 8, 8, 64), 'train-label', 1.5),
    ('cpu', ('float32', 100, 8, 32), 'train-label', None),
    ('cpu', ('bfloat16', 100, 8, 32), 'generate', 1.0),
    ('gpu', ('bfloat16', 100, 32, 32), 'train-label', 4.0),
    ('gpu', ('bfloat16', 100, 32, 32), 'evaluate', None),
  ],
)
def test_what_is_aimed_at(platform, case, work, least):
  assert COMPARED.at_least(platform, versus.Case('m', *case), work) == least


def row(**changes):
  seconds = {'min': 0.1, 'median': 0.2, 'max': 0.4}
  return {
    **dataclasses.asdict(CASE),
    'work': 'train-label',
    'load': 1.25,
    'at_least': 6.0,
    'operations': 2 * 10**9,
    'theirs_operations': 10**10,
    'rate': 2e10,
    'same': 2e-7,
    'ours': seconds,
    'theirs': {key: 5 * value for key, value in seconds.items()},
    'times': {'min': 4.5, 'median': 5.0, 'max': 6.5},
    'bytes': 2**29,
    'theirs_bytes': 2**31,
    'memory_at_most': 0.5,
    **changes,
  }


MACHINE = {'platform': 'cpu', 'device': 'cpu', 'cores': 2, 'load': 1.0}


def tell(*rows, missing=''):
  found = {'machine': {**MACHINE, 'jax': '0'}, 'repeats': 5}
  return list(
    versus_tables.tell({**found, 'rows': list(rows), 'missing': missing})
  )


def test_the_table_says_what_was_met():
  _, table, rate, bound = tell(row(), row(at_least=None, theirs_bytes=2**30))
  _, _, first, second = table.splitlines()
  assert (
    first.split()
    == (
      'tiny float32 3 2 6 train-label 100 200 400 0.50 500 1000 2000 0.50 '
      '4.50 5.00 6.50 6.0 missed 10.00 2.0e-07 0.50 0.25 met 1.2'
    ).split()
  )
  assert second.split()[-8:] == '6.50 – 10.00 2.0e-07 0.50 0.50 met 1.2'.split()
  assert bound.startswith('at the rate: ')
  assert '20.0 20.0 20.0 10^9 operations/s' in rate
  assert 'missed' not in tell(row(at_least=5.0))[1]
  assert '0.51 missed' in tell(row(theirs_bytes=int(2**29 / 0.51)))[1]


def test_the_table_without_peft_has_its_own_side():
  alone = row(at_least=6.0)
  for key in ('theirs', 'times', 'same', 'theirs_bytes'):
    del alone[key]
  _, said, table, _ = tell(alone, missing='without it')
  assert said == 'without it'
  assert (
    table.splitlines()[-1].split()[6:] == '100 200 400 0.50 0.50 1.2'.split()
  )


def test_the_picture_has_each_ratio_and_each_aim():
  figures = pytest.importorskip('matplotlib.figure')
  figure = figures.Figure()
  versus_tables.draw(figure, [row(), row(at_least=None)])
  (axes,) = figure.axes
  at = {
    marker: [
      line.get_xdata()[0] for line in axes.lines if line.get_marker() == marker
    ]
    for marker in 'o|'
  }
  assert at == {'o': [5.0, 5.0], '|': [6.0]}
  untimed = {key: row()[key] for key in (*versus_tables._CASE, 'bytes')}
  figure = figures.Figure()
  versus_tables.draw(figure, [untimed, untimed | {'theirs_bytes': 2**30}])
  held = [list(line.get_xdata()) for line in figure.axes[0].lines]
  assert held == [[0.5], [0.5], [1.0]]
  versus_tables.draw(figures.Figure(), [untimed])  # without a peer


@pytest.mark.skipif(
  bool(peft_side.missing()), reason='peft, torch, transformers are needed'
)
def test_peft_says_the_same(folder):
  plan = versus.Plan((CASE,), causal.WORKS, repeats=1, memory=False)
  found = run(plan)
  assert [row['work'] for row in found['rows']] == list(causal.WORKS)
  assert all(row['times']['median'] > 0 for row in found['rows'])
