"""RAFT's folders: a dev split nobody trains on, labels of its test tweets."""

import sys
import types

import pytest

from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.data import raft, source
from ptjax.tasks import base

COMPLAINTS = 6


def write(folder, *, original=False):
  """18 labelled tweets, four test tweets, and the file they were cut from."""
  folder.mkdir(parents=True)
  train = ['Tweet text,Label,ID']
  for i in range(18):
    word = 'complaint' if i < COMPLAINTS else 'no complaint'
    train.append(f'"@shop tweet {i}, at length",{word},{i}')
  (folder / 'train.csv').write_text('\n'.join(train) + '\n')
  test = ['Tweet text,ID', 'Why? Not   good!,50', 'why? not good,51', 'ok,52']
  (folder / 'test_unlabeled.csv').write_text('\n'.join(test) + '\n')
  if original:
    place = folder.parent / 'original'
    place.mkdir()
    lines = ['1,"Why?? Not good",1,food', '2,why not good,0,food', '3,ok,0,x']
    (place / 'complaints-data.csv').write_text('\n'.join(lines) + '\n')


@pytest.mark.parametrize('seed', range(4))
def test_dev_is_labelled_tweets_that_are_not_trained_on(tmp_path, seed):
  write(tmp_path / 'raft')
  train, dev = (
    raft.rows(str(tmp_path), split, seed=seed) for split in ('train', 'dev')
  )
  ids = [{row['ID'] for row in rows} for rows in (train, dev)]
  assert not ids[0] & ids[1] and len(ids[0] | ids[1]) == 18
  texts = [{row['Tweet text'] for row in rows} for rows in (train, dev)]
  assert not texts[0] & texts[1]
  assert sum(row['Label'] == 'complaint' for row in dev) == COMPLAINTS / 3
  assert len(dev) == 6


def test_the_run_s_seed_draws_and_a_shot_is_drawn_behind_it(tmp_path):
  write(tmp_path / 'raft')
  c = config_lib.default()
  c.data = str(tmp_path)
  drawn = []
  for c.seed in (0, 1):
    rows = source.rows(c, 'raft/twitter_complaints', 'dev')
    drawn.append([row['ID'] for row in rows])
    assert f'drawn by seed {c.seed}' in str(
      source.remarks(c, 'raft/twitter_complaints')
    )
  assert drawn[0] != drawn[1]


def test_test_tweets_have_no_labels_in_raft(tmp_path):
  write(tmp_path / 'raft')
  task = base.load('twitter_complaints')
  rows = raft.rows(str(tmp_path / 'raft'), 'test', seed=0)
  examples = task.examples(rows, 'test')
  assert [e.meta['idx'] for e in examples] == ['50', '51', '52']
  assert not task.labelled(examples)


def test_the_original_file_labels_them_by_letters_and_digits(tmp_path):
  write(tmp_path / 'raft', original=True)
  rows = raft.rows(str(tmp_path), 'test', seed=0)
  # Case tells the first two apart; spaces and signs do not count.
  assert [row['Label'] for row in rows] == [
    'complaint',
    'no complaint',
    'no complaint',
  ]
  said = raft.remarks(str(tmp_path), seed=0)[1]
  assert 'complaints-data.csv, for scores here only' in said


@pytest.mark.parametrize(
  'lines, sentence',
  [
    ('1,Why not good,1,x\n', 'has 0 labels in'),
    ('1,WhyNotgood,1,x\n2,WhyNotgood,0,x\n', 'row 0 of the test tweets has 2'),
    ('1,ok,yes,x\n', "line 1 has the label 'yes'; it can be 0 or 1"),
    ('1,ok\n', 'line 1 has 2 columns; it needs id, text and label'),
  ],
)
def test_an_original_that_is_another_is_refused(tmp_path, lines, sentence):
  write(tmp_path / 'raft', original=True)
  (tmp_path / 'original/complaints-data.csv').write_text(lines)
  with pytest.raises(UserError) as error:
    raft.rows(str(tmp_path), 'test', seed=0)
  assert sentence in str(error.value) and '\n' not in str(error.value)


def test_what_is_missing_is_told(tmp_path):
  with pytest.raises(UserError, match='has no files of Twitter complaints'):
    raft.rows(str(tmp_path), 'train', seed=0)
  with pytest.raises(UserError, match='is no folder'):
    raft.rows(str(tmp_path / 'x'), 'train', seed=0)
  write(tmp_path / 'raft')
  (tmp_path / 'raft/test_unlabeled.csv').unlink()
  with pytest.raises(UserError, match='has no test split'):
    raft.rows(str(tmp_path), 'test', seed=0)


def test_the_miniature_has_its_own_splits(monkeypatch):
  stub = types.ModuleType('ptjax.miniature.complaints')
  stub.rows = lambda split: [{'Tweet text': split, 'Label': 'complaint'}]
  monkeypatch.setitem(sys.modules, 'ptjax.miniature.complaints', stub)
  monkeypatch.setattr('ptjax.miniature.complaints', stub, raising=False)
  for split in ('train', 'dev', 'test'):
    (row,) = raft.rows('miniature', split, seed=0)
    assert row['Tweet text'] == split
  assert raft.remarks('miniature', seed=0) == []


def test_the_hub_s_train_split_is_parted(monkeypatch):
  asked = []

  def rows(name, *, config, split):
    asked.append((name, config, split))
    numbers = range(9) if split == 'train' else range(9, 12)
    return [
      {'Tweet text': str(i), 'Label': 1 + i % 2, 'ID': i} for i in numbers
    ]

  monkeypatch.setattr(raft.hub, 'rows', rows)
  dev = raft.rows('hub', 'dev', seed=0)
  train = raft.rows('hub:me/mine', 'train', seed=0)
  assert not {r['ID'] for r in dev} & {r['ID'] for r in train}
  assert len(raft.rows('hub', 'test', seed=0)) == 3
  assert asked == [
    ('ought/raft', 'twitter_complaints', 'train'),
    ('me/mine', 'twitter_complaints', 'train'),
    ('ought/raft', 'twitter_complaints', 'test'),
  ]
