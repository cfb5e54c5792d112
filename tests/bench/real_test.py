"""Passes over rows of real lengths: the order, the shares, what is refused."""

import json
import pathlib

import numpy as np
import pytest

from ptjax.bench import __main__ as command
from ptjax.bench import apart, peft_side, random_t5, real, real_sides, t5
from ptjax.data.batch import Encoded
from ptjax.models.t5 import T5Config

SHIPPED = pathlib.Path(real.__file__).parents[1] / 'miniature' / 't5'
# Words of which both tokenizers make the same pieces.
WORDS = 'lamp kitchen bread on the of is in red small'.split()
TINY = T5Config(689, 16, 8, 24, 1, 1, 2)


@pytest.fixture
def folder(tmp_path):
  """CB's files, whose inputs are of 3 to 40 words."""
  path = tmp_path / 'superglue' / 'CB'
  path.mkdir(parents=True)
  rng = np.random.default_rng(0)
  with (path / 'train.jsonl').open('w') as file:
    for number, size in enumerate(rng.integers(3, 40, 11)):
      words = ' '.join(rng.choice(WORDS, size))
      row = {'premise': words, 'hypothesis': 'lamp'}
      row |= {'label': 'neutral', 'idx': number}
      file.write(json.dumps(row) + '\n')
  return path.parent


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
  monkeypatch.setitem(random_t5.SIZES, 'tiny', TINY)
  monkeypatch.setattr(real_sides, 'LENGTH', 96)


class Plain:
  """What stands for PEFT's side: it counts the rows of its passes."""

  rows = {}

  def __init__(self, folder, *, dtype, prompt_PxD, device):
    assert prompt_PxD.shape == (3, 16) and device == 'cpu'
    type(self).rows = dict.fromkeys(('train', 'rank', 'generate'), 0)

  def begin(self):
    pass

  def train_over(self, examples, pieces, *, size):
    self.rows['train'] += len(examples) // size * size

  def rank_over(self, examples, pieces, *, size):
    self.rows['rank'] += len(examples)
    return ['lamp' for _ in examples]

  def generate_over(self, examples, pieces, *, size, count):
    # The longest label and what ends it; some more where none are known.
    assert count == (2 if examples[0].choices else 4)
    self.rows['generate'] += len(examples)
    return ['lamp' for _ in examples]

  def wait(self, value):
    return value


def plan(folder, **changes):
  given = {'models': ('tiny',), 'dtypes': ('float32',), 'tasks': ('cb',)}
  given |= {'batches': (4,), 'prompt': 3, 'repeats': 1}
  return real.Plan(str(folder), str(SHIPPED), **given | changes)


def test_both_sides_pass_over_the_same_number_of_rows(folder, monkeypatch):
  monkeypatch.setitem(real.OTHER, 'float32', 1.0)  # Plain knows nothing
  rows = real.run(plan(folder), peer=Plain, held=apart.Here)['rows']
  assert [row['work'] for row in rows] == list(real.WORKS)
  assert [row['examples'] for row in rows] == [8, 11, 11, 11]
  # One pass compiles, one warms up, one is timed; one more says the answers.
  assert Plain.rows == {'train': 24, 'rank': 44, 'generate': 88}
  assert rows[0]['fixed_at_least'] == 3.0 and rows[0]['fixed_times'] > 0
  assert [row['at_least'] for row in rows] == [1.5, 2.0, 2.0, 2.0]
  assert all(row['operations'] > 0 and row['rate'] > 0 for row in rows)
  _, table, _, _, share = real.tell(
    {'machine': MACHINE, 'repeats': 1, 'missing': '', 'rows': rows}
  )
  assert 'cb' in table and 'of the positions are real or prompt' in share


def test_no_ratio_of_sides_that_do_not_say_the_same(folder):
  asked = plan(folder, works=('rank',))
  with pytest.raises(RuntimeError, match='of the answers differ'):
    real.run(asked, peer=Plain, held=apart.Here)


@pytest.mark.skipif(
  bool(peft_side.missing()), reason='peft, torch, transformers are needed'
)
def test_both_sides_say_the_same(folder):
  asked = plan(folder, prompt=3)
  room = folder.parent / 'tiny'
  room.mkdir()
  found = real.examples(asked, 'cb')
  real._write(room, asked, 'tiny', found)
  ours = real._ours(room, asked, 'float32')
  theirs = real_sides.Peft(room, dtype='float32', prompt_PxD=ours.prompt_PxD)
  labels = {'entailment', 'contradiction', 'neutral'}
  for work in ('rank', 'generate', 'free'):
    about = {'dtype': 'float32', 'work': work}
    sides = [real._pass(s, asked, found, work, 4)() for s in (ours, theirs)]
    assert real._differ(about, *sides) == 0 and len(sides[0]) == 11
    assert set(sides[0]) <= labels
  assert len(set(sides[0])) > 1
  # What was compiled for one pass is there for the next.
  once = ours._in_batches(4).placed_choices
  compiled = once._cache_size()
  real._pass(ours, asked, found, 'rank', 4)()
  assert ours._in_batches(4).placed_choices is once
  assert once._cache_size() == compiled > 0
  losses = [
    side.wait(real._pass(side, asked, found[:4], 'train', 4)())
    for side in (ours, theirs)
  ]
  np.testing.assert_allclose(*losses, rtol=1e-4)  # before the only update


MACHINE = {'platform': 'cpu', 'device': 'cpu', 'cores': 2, 'load': None}
MACHINE['jax'] = '0'


def test_the_shares_are_of_the_positions_that_are_computed(folder):
  from ptjax.data import tokenizer

  pieces = tokenizer.load(str(SHIPPED))
  found = real.examples(plan(folder), 'cb')
  split = real_sides.split(found, pieces, size=4)
  made = list(real_sides.first_epoch(split, size=4))
  assert len(made) == 2 and all(len(each['inputs']) == 4 for each in made)
  lengths = [int(row) for each in made for row in each['input_mask'].sum(1)]
  positions = sum(each['inputs'].size for each in made)
  got = real._shares(plan(folder), found, lengths, 4, pieces)
  assert got['ours'] == (sum(lengths) + 24) / (positions + 24)
  assert got['fixed'] == (sum(lengths) + 24) / (8 * 96 + 24)
  rows = np.reshape(lengths, (2, 4))
  longest = 4 * rows.max(axis=1).sum()
  assert got['longest'] == (sum(lengths) + 24) / (longest + 24)


def test_the_least_is_a_program_without_padding():
  """That of one row alone, whose answer is read by absorbed kernels or not."""
  row = Encoded(np.ones(9, int), np.ones(3, int), (np.ones(2, int),) * 4)
  read = t5.encoder(TINY, 1, 12)

  def said(count):
    ways = (t5.decoder(TINY, 1, 12, count, absorbed=a) for a in (True, False))
    return min(ways, key=sum)

  assert said(2) == t5.decoder(TINY, 1, 12, 2, absorbed=True)
  ways = (t5.decoder(TINY, 1, 12, 3, absorbed=a) for a in (True, False))
  training = t5.train(read) + min(map(t5.train, ways))
  found = {w: real.least(TINY, [row], w, prompt=3) for w in real.WORKS}
  assert found['train'] == training
  assert found['rank'] == sum(read) + 4 * sum(said(2))
  assert found['generate'] == found['free'] == sum(read) + sum(said(3))
  # By the cost of training itself, which may be least the other way.
  for absorbed in (True, False):
    way = t5.decoder(TINY, 1, 12, 3, absorbed=absorbed)
    assert found['train'] <= t5.train(read) + t5.train(way)
  assert real.least(TINY, [row, row], 'train', prompt=3) == 2 * training


def test_examples_are_drawn_from_all_of_a_split(folder):
  few = real.examples(plan(folder, examples=5), 'cb')
  assert len(few) == 5 and len(real.examples(plan(folder), 'cb')) == 11
  rows = [json.loads(line) for line in (folder / 'CB' / 'train.jsonl').open()]
  first = [row['premise'] for row in rows[:5]]
  assert any(not any(p in e.inputs for p in first) for e in few)


@pytest.mark.parametrize(
  'flags,sentence',
  [
    (['--data=/nowhere'], '--data=/nowhere is no folder'),
    (['--shapes=smal'], "did you mean 'small'?"),
    (['--tasks=cbb'], "did you mean 'cb'?"),
    (['--works=ranks'], "did you mean 'rank'?"),
    (['--batch=64', '--shapes=tiny'], 'fewer than the 64 of a batch'),
  ],
)
def test_a_wrong_flag_is_one_sentence(flags, sentence, folder, capsys):
  given = [f'--data={folder}', f'--tokenizer={SHIPPED}', '--tasks=cb', *flags]
  assert command.main(['real', *given]) == 2
  assert sentence in capsys.readouterr().err.splitlines()[-1]
