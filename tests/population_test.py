"""Members side by side are what each would be alone."""

import jax
import numpy as np
import pytest
import tiny

from ptjax import assemble, checks, population, side_by_side, tree
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.data import split


def config(**changes):
  return config_lib.update(config_lib.default(), changes)


def test_the_grid_is_the_product_and_names_what_varies():
  c = config(
    seed=7,
    **{
      'population.seeds': 2,
      'population.lr': (0.1, 1),
      'population.init': ('uniform', 'labels'),
    },
  )
  found = population.members(c)
  assert len(found) == len(set(found)) == 8
  assert found[0] == population.Member(7, 0.1, 'uniform')
  assert found[-1] == population.Member(8, 1.0, 'labels')
  assert population.varying(found) == ('seed', 'lr', 'init')
  alone = population.members(config())
  assert alone == (population.Member(0, 0.3, 'labels'),)
  assert population.varying(alone) == ()


@pytest.mark.parametrize(
  'changes,sentence',
  [
    ({'population.seeds': 0}, 'population.seeds=0 makes no member'),
    ({'population.lr': (0.1, 0.1)}, 'has 0.1 twice'),
    ({'population.lr': (0.1, -1)}, 'population.lr has -1; rates must be above'),
    ({'population.lr': ('fast',)}, "population.lr has 'fast'"),
    ({'population.init': ('vocab',)}, "did you mean 'vocabulary'"),
    ({'population.init': ('text',)}, 'method.init=text needs method.text'),
    ({'seed': 2**32 - 3, 'population.seeds': 3}, 'must be in .0, 4294967293'),
    (
      {'method.name': 'model_tuning', 'population.init': ('labels',)},
      'model_tuning has no start to choose',
    ),
  ],
)
def test_a_grid_that_cannot_be_is_refused(changes, sentence):
  with pytest.raises(UserError, match=sentence):
    checks.check(config(**changes))


def test_batches_of_unequal_length_are_padded_to_the_longest():
  def batch(length, value):
    ids = np.full((2, length), value, np.int32)
    targets = np.full((2, 3), value, np.int32)
    mask = np.ones((2, length), bool)
    return {'inputs': ids, 'input_mask': mask, 'targets': targets}

  streams = [iter([batch(4, 1), batch(8, 2)]), iter([batch(8, 3), batch(8, 4)])]
  first, second = population.stack(streams)
  assert first['inputs'].shape == second['inputs'].shape == (2, 2, 8)
  assert first['targets'].shape == (2, 2, 3)
  assert first['input_mask'].sum(-1).tolist() == [[4, 4], [8, 8]]
  np.testing.assert_array_equal(first['inputs'][1], 3)


def test_members_meet_rows_of_one_length_at_a_step():
  """Else most steps would be padded for somebody else's row."""
  rng = np.random.default_rng(0)
  from ptjax.data import batch, pipeline

  rows = [
    batch.Encoded(np.ones(n, np.int32), np.ones(2, np.int32))
    for n in rng.integers(1, 33, 600)
  ]

  def lengths(seed):
    stream = pipeline.train_batches(
      rows, batch_size=8, buckets=(8, 16, 32), seed=seed
    )
    return [next(stream)['inputs'].shape[1] for _ in range(75)]

  first, second = lengths(0), lengths(1)
  assert len(set(first)) == 3
  assert sum(a != b for a, b in zip(first, second)) <= 4


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  path = tmp_path_factory.mktemp('population')
  tiny.model_folder(path / 'model')
  tiny.data_folder(path / 'data')
  return path


def trained(room, *, steps=20, **changes):
  """The state of a population after so many steps of CB."""
  c = config(
    model=str(room / 'model'),
    data=str(room / 'data'),
    task='cb',
    **{
      'method.length': 5,
      'method.low': -0.4,
      'train.batch_size': 8,
      'train.steps': 40,
      'train.dropout': 0.1,
      **changes,
    },
  )
  checks.check(c)
  made = assemble.parts(c)
  (task,) = split.tasks(c)
  train = split.load(c, task, ['train'], made.tokenizer)['train']
  tuned, frozen = made.init(labels=task.init_words)
  state = made.state(tuned)
  streams = [
    train.train_batches(batch_size=8, seed=m.seed, start_step=0)
    for m in made.members
  ]
  for _, batch in zip(range(steps), population.stack(streams)):
    state, _ = made.train_step(state, frozen, batch)
  return made, state


@pytest.mark.parametrize(
  'optimizer',
  [
    {'optimizer.name': 'adafactor', 'optimizer.schedule': 'linear'},
    {'optimizer.name': 'adafactor', 'method.length': 130, 'buckets': (32,)},
    {
      'optimizer.name': 'adamw',
      'optimizer.clip': 0.01,
      'optimizer.weight_decay': 0.1,
      'optimizer.schedule': 'cosine',
      'optimizer.warmup': 3,
    },
  ],
  ids=['adafactor', 'long', 'adamw'],
)
def test_a_member_is_the_run_of_its_own(room, optimizer, monkeypatch):
  """Parameters after 20 steps: seed, rate, start, order of the data, dropout,
  and an optimizer that clips, factors and decays each by itself."""
  # As on an accelerator: a CPU's turns could not mix members up.
  monkeypatch.setattr(side_by_side, 'at_once', lambda members, _: members)
  grid = {
    'population.seeds': 2,
    'population.lr': (0.03, 0.3),
    'population.init': ('uniform', 'labels'),
    **optimizer,
  }
  made, state = trained(room, **grid)
  together = np.asarray(state.tuned['prompt']['encoder'])
  assert together.shape[0] == 8
  # The first and the last differ in all that varies.
  for i in (0, 7):
    member = made.members[i]
    _, alone = trained(
      room,
      **optimizer,
      **{
        'seed': member.seed,
        'optimizer.lr': member.lr,
        'method.init': member.init,
      },
    )
    want = np.asarray(alone.tuned['prompt']['encoder'][0])
    # Of the whole prompt: where a gradient is next to nothing, Adafactor makes
    # a step of its rounding, and one number in thousands is 1e-3 off.
    apart = np.linalg.norm(together[i] - want) / np.linalg.norm(want)
    print(f'\nmember {i}, relative: {apart:.1e}')
    assert apart < 1e-4
    assert np.abs(together[i] - together[3]).max() > 0.01


def test_a_member_that_fails_or_is_done_stays_while_the_others_go(room):
  """Each at its last good state, bit for bit."""
  patient = {'train.patience': 2, 'method.init': 'uniform'}
  made, state = trained(
    room, steps=2, **{'population.lr': (3e38, 0.3), **patient}
  )
  assert state.ok.tolist() == [False, True]
  assert state.step.tolist() == [0, 2]
  started, frozen = made.init()
  np.testing.assert_array_equal(
    state.tuned['prompt']['encoder'][0], started['prompt']['encoder'][0]
  )
  # One that has had its evaluations without a better one is left, too.
  made, going = trained(room, steps=1, **patient)
  batch = jax.tree.map(lambda x: x[None], tiny.batch())
  stopped = going.replace(stale=going.stale + 2)
  before = tree.checksum(stopped.tuned)
  after, _ = made.train_step(stopped, frozen, batch)
  assert tree.checksum(after.tuned) == before and after.step.tolist() == [1]
