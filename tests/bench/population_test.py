"""The benchmark measures the functions of a run; its arithmetic is right."""

import functools
import itertools
import json
import types

import jax
import numpy as np
import pytest
import tiny

from ptjax import config as config_lib
from ptjax import step
from ptjax.bench import __main__ as command
from ptjax.bench import population, shapes, tables
from ptjax.config import UserError

CASE = population.Case('tiny', 2, 8, 3)
build = functools.partial(shapes.build, sizes=tiny.CONFIG)


def side(members, steps=2):
  config = config_lib.miniature(config_lib.default())
  made = build('tiny', config)
  return population.Side(
    population.sized(made, CASE, members=members, steps=steps)
  )


@pytest.fixture
def clock(monkeypatch):
  """Seconds that only steps take: one, and one more for each member."""
  now = [0.0]
  real = population.Side._step

  def worked(self, batch):
    now[0] += 1 + len(self.made.members)
    return real(self, batch)

  monkeypatch.setattr(population.Side, '_step', worked)
  return lambda: now[0]


def test_a_side_is_the_production_step(monkeypatch):
  made = []

  def recorded(*args, rates, **kwargs):
    train_step = make(*args, rates=rates, **kwargs)
    made.append((len(rates), train_step))
    return train_step

  make = step.make_train_step
  monkeypatch.setattr(step, 'make_train_step', recorded)
  three = side(3)
  three.steps(2)
  assert three.state.step.tolist() == [2, 2, 2]
  three.job(4)
  assert three.state.step.tolist() == [4, 4, 4]
  assert [count for count, _ in made] == [3]
  assert three.made.train_step is made[0][1]
  assert three.batch['inputs'].shape == (3, 2, 8)
  assert three.state.tuned['prompt']['encoder'].shape == (3, 3, 24)


def test_both_sides_meet_the_same_data():
  one, three = side(1), side(3)
  together = list(itertools.islice(three.batches(), 4))
  for i in range(3):
    for mine, theirs in zip(one.batches(seed=i), together):
      for key in mine:
        np.testing.assert_array_equal(mine[key][0], theirs[key][i])
  assert not np.array_equal(together[0]['index'][0], together[0]['index'][1])


def test_memory_is_the_compilers_word_beside_the_weights():
  one = side(1)
  weights, rest = one.memory()
  assert weights == 4 * sum(x.size for x in jax.tree.leaves(one.frozen))
  # Scores and mlp of the encoder alone, kept for the backward pass.
  assert rest > 4 * 2 * 2 * 11 * (3 * 11 + 3 * 36)
  found = types.SimpleNamespace(
    argument_size_in_bytes=1000,
    output_size_in_bytes=200,
    temp_size_in_bytes=30,
    alias_size_in_bytes=4,
  )
  assert population.total_bytes(found) == 1226
  row = population.memory_row((1000, 200), (1000, 800), 5)
  assert row == {'bytes': 1800, 'memory': 0.9}
  none = population.memory_row(None, (1000, 800), 5)
  assert none == {'bytes': None, 'memory': None}


def test_a_run_times_each_number_of_members_against_one(clock):
  plan = population.Plan((CASE,), (1, 3), steps=2, repeats=2)
  found = population.run(plan, build=build, clock=clock, least=0)
  first, second = found['steps']
  assert (first['members'], second['members']) == (1, 3)
  assert second['dtype'] == 'float32' and second['batch'] == 2
  assert (second['one']['median'], second['all']['median']) == (2, 4)
  assert second['times'] == {'min': 2, 'median': 2, 'max': 2}
  assert second['examples_per_second'] == 3 * 2 / 4
  assert first['memory'] == 1 and 0 < second['memory'] <= 1
  (job,) = found['jobs']
  assert job['members'] == 3 and job['steps'] == 2
  # Three jobs of two steps of one; two steps of all.
  assert job['in_turn']['median'] == 3 * 2 * 2
  assert job['together']['median'] == 2 * 4
  assert job['times']['median'] == pytest.approx(8 / 12)


def test_a_population_without_room_ends_its_case_alone(monkeypatch, clock):
  def steps(self, count):
    if len(self.made.members) > 2:
      raise jax.errors.JaxRuntimeError(error)
    real(self, count)

  real = population.Side.steps
  monkeypatch.setattr(population.Side, 'steps', steps)
  cases = (CASE, population.Case('tiny', 4, 8, 3))
  plan = population.Plan(cases, (1, 3, 4), steps=0, repeats=1)
  run = functools.partial(population.run, build=build, least=0)
  error = 'RESOURCE_EXHAUSTED: 80 GiB'
  found = run(plan, clock=clock)
  said = [(r['batch'], r['members'], r.get('failed')) for r in found['steps']]
  full = 'out of memory'
  assert said == [(2, 1, None), (2, 3, full), (4, 1, None), (4, 3, full)]
  table = '\n'.join(tables.tell({**ABOUT, **found}))
  assert full in table
  error = 'INTERNAL: a defect'
  with pytest.raises(jax.errors.JaxRuntimeError, match='a defect'):
    run(plan, clock=clock)


ABOUT = {
  'benchmark': 'population',
  'machine': {
    'platform': 'cpu',
    'device': 'cpu',
    'cores': 2,
    'load': 1.25,
    'jax': '0',
  },
  'repeats': 5,
}


def row(members, *, times, memory, rate):
  scaled = {'min': times - 1, 'median': times, 'max': times + 1}
  return {
    **{'model': 'base', 'dtype': 'bfloat16', 'batch': 8, 'input': 64},
    **{'prompt': 20, 'members': members},
    'one': {'min': 0.01, 'median': 0.02, 'max': 0.03},
    'all': scaled,
    'times': scaled,
    'bytes': 2**29,
    'memory': memory,
    'examples_per_second': rate,
  }


def test_the_table_says_what_was_met_and_where_it_saturates():
  rows = [
    row(2, times=2.0, memory=1.0, rate=100.0),
    row(5, times=5.01, memory=1.001, rate=104.0),
  ]
  head, table, saturated = tables.tell({**ABOUT, 'steps': rows, 'jobs': []})
  assert head == 'cpu (cpu), 2 cores, load 1.2 at the start, jax 0; 5 pairs'
  _, _, first, second = table.splitlines()
  assert (
    first.split()[5:]
    == (
      '2 10.0 20.0 30.0 1000 2000 3000 1.00 2.00 3.00 2.0 met 1.000 1.0 met '
      '0.500 100.0'
    ).split()
  )
  assert (
    second.split()[-8:-1] == '6.01 5.0 missed 1.001 1.0 missed 0.500'.split()
  )
  assert saturated == (
    'base, batch 8, input 64, prompt 20: saturated at 2 members; more bring '
    'less than 5 % more examples/s'
  )


@pytest.mark.parametrize(
  'rates,at',
  [
    ({1: 100, 2: 180, 5: 200, 10: 209, 20: 205}, 5),
    ({1: 100, 2: 104, 5: 120, 10: 121}, 5),  # a plateau that is left again
    ({1: 100, 2: 180, 5: 300}, None),
    ({1: 100, 5: 90}, 1),
  ],
)
def test_saturation_is_the_fewest_members_that_no_more_outdo(rates, at):
  assert population.saturation(rates) == at


def test_a_plan_suits_its_platform_and_lengths_go_together():
  cpu = population.plan('cpu')
  assert cpu.members == (5,)
  assert {case.model for case in cpu.cases} == {'miniature', 'small'}
  gpu = population.plan('gpu')
  assert gpu.members == (1, 2, 5, 10, 20)
  assert len(gpu.cases) == len(set(gpu.cases)) == 8
  assert population.Case('large', 32, 256, 100) in gpu.cases
  plan = population.plan(
    'cpu', models=['xl'], batches=[4], inputs=[8, 16], prompts=[1, 2]
  )
  assert [(c.input, c.prompt) for c in plan.cases] == [(8, 1), (16, 2)]
  with pytest.raises(UserError, match='--input has 2 lengths and --prompt 1'):
    population.plan('cpu', inputs=[8, 16], prompts=[1])


@pytest.mark.parametrize(
  'flags,sentence',
  [
    ([], 'benchmark'),
    (['step'], "invalid choice: 'step'"),
    (['population', '--members=1,two'], "'two' is not a whole number"),
    (['population', '--members=0'], '--members must be 1 or more'),
    (['population', '--shapes='], 'names nothing'),
    (['population', '--shapes=smal'], "did you mean 'small'?"),
    (['population', '--rows=2'], 'unrecognized arguments: --rows=2'),
  ],
)
def test_a_wrong_flag_is_one_sentence(flags, sentence, capsys):
  assert command.main(flags) == 2
  out, err = capsys.readouterr()
  assert not out and err.startswith('ptjax: ') and err.count('\n') == 1
  assert sentence in err


def test_the_command_prints_and_leaves_what_it_found(
  tmp_path, capsys, monkeypatch
):
  monkeypatch.setitem(shapes.T5_1_1, 'small', tiny.CONFIG)
  flags = '--shapes=small --batch=2 --input=8 --prompt=3 --members=1,2'
  flags += f' --steps=1 --repeats=1 --out={tmp_path}'
  assert command.main(['population', *flags.split()]) == 0
  out = capsys.readouterr().out
  assert 'step of all, ms' in out and 'one after another, s' in out
  assert 'small, batch 2, input 8, prompt 3: ' in out
  found = json.loads((tmp_path / 'population.json').read_text())
  assert [r['members'] for r in found['steps']] == [1, 2]
  assert found['steps'][1]['times']['median'] > 0
  assert (tmp_path / 'population.png').exists() or 'no picture' in out


def test_the_picture_shows_each_share_and_where_it_grows():
  figures = pytest.importorskip('matplotlib.figure')
  rows = [
    row(2, times=2.5, memory=1.0, rate=100.0),
    row(5, times=4.0, memory=1.0, rate=104.0),
    {**row(20, times=1.0, memory=1.0, rate=1.0), 'failed': 'out of memory'},
  ]
  figure = figures.Figure()
  tables.draw(figure, rows)
  shares, speeds = figure.axes
  points = [
    line.get_xdata()[0] for line in shares.lines if line.get_marker() == 'o'
  ]
  np.testing.assert_allclose(points, [1.25, 0.8])
  (line,) = speeds.lines
  np.testing.assert_array_equal(line.get_xydata(), [[2, 100], [5, 104]])
  figure = figures.Figure()
  tables.draw(figure, rows[:1])
  assert len(figure.axes) == 1
