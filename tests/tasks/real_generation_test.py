"""Real files of the causal tasks: sizes, halves that do not overlap, scores."""

import collections

import pytest

from ptjax.data import generation, raft
from ptjax.tasks import base

SPLITS = ('train', 'dev', 'test')


def tweets(shared, split, seed=0):
  folder = str(shared / 'data/twitter_complaints')
  return raft.rows(folder, split, seed=seed)


@pytest.mark.parametrize('seed', range(3))
def test_raft_s_fifty_are_parted(shared, seed):
  train, dev = (tweets(shared, split, seed) for split in ('train', 'dev'))
  ids = [{row['ID'] for row in rows} for rows in (train, dev)]
  assert not ids[0] & ids[1]
  assert ids[0] | ids[1] == {str(i) for i in range(50)}
  count = collections.Counter(row['Label'] for row in dev)
  assert count == {'complaint': 6, 'no complaint': 11}
  count.update(row['Label'] for row in train)
  assert count == {'complaint': 17, 'no complaint': 33}
  letters = [{raft._letters(r['Tweet text']) for r in x} for x in (train, dev)]
  test = {raft._letters(r['Tweet text']) for r in tweets(shared, 'test')}
  assert not letters[0] & letters[1] and not test & (letters[0] | letters[1])


def test_all_test_tweets_are_labelled_by_the_original(shared):
  task = base.load('twitter_complaints')
  examples = task.examples(tweets(shared, 'test'), 'test')
  assert len(examples) == 3399 and task.labelled(examples)
  # 1,232 of the original's 3,449 tweets are complaints, 17 of them in train.
  assert sum(e.targets == 'complaint' for e in examples) == 1232 - 17
  right = [e.targets for e in examples]
  assert set(task.metrics(right, examples).values()) == {100}
  said = task.metrics(['no complaint'] * 3399, examples)
  assert said['accuracy'] == pytest.approx(100 * (3399 - 1215) / 3399)


def test_training_labels_agree_with_the_original(shared):
  folder = shared / 'data/twitter_complaints'
  train = [row for split in SPLITS[:2] for row in tweets(shared, split)]
  blank = [{'Tweet text': row['Tweet text']} for row in train]
  found = raft._labelled(blank, folder / 'original/complaints-data.csv')
  assert [row['Label'] for row in found] == [row['Label'] for row in train]


def test_without_the_original_there_are_none(shared, tmp_path):
  for path in (shared / 'data/twitter_complaints/raft').glob('*.csv'):
    (tmp_path / path.name).write_bytes(path.read_bytes())
  task = base.load('twitter_complaints')
  rows = raft.rows(str(tmp_path), 'test', seed=0)
  assert not task.labelled(task.examples(rows, 'test'))


# Rows of the files, by SOURCES.md; what is cut off is in them.
SIZES = {
  ('generation', 'summarization'): (1000, 0, 100),
  ('generation', 'translation'): (29_000, 1014, 1000),
  ('qa', 'qa'): (1190, 0, 0),
  ('qa/nq_open_gold_context', 'qa'): (2655, 0, 0),
}


@pytest.mark.parametrize('place, name', SIZES)
def test_every_row_is_in_one_split(shared, place, name):
  task, folder = base.load(name), str(shared / 'data' / place)
  found = {
    split: task.examples(generation.rows(folder, name, split, seed=0), split)
    for split in SPLITS
  }
  assert sum(map(len, found.values())) == sum(SIZES[place, name])
  if name == 'translation':
    assert tuple(map(len, found.values())) == SIZES[place, name]
  else:
    texts = [{e.inputs for e in found[split]} for split in SPLITS]
    assert not texts[0] & texts[1] and not texts[1] & texts[2]
    assert not texts[0] & texts[2]
  for split in SPLITS:
    assert len(found[split]) >= 50 and task.labelled(found[split])
  test = found['test']
  right = task.metrics([e.targets for e in test], test)
  assert all(value == pytest.approx(100) for value in right.values())
  assert all(len(e.targets) < 500 and e.inputs.endswith(' :') for e in test)


def test_what_is_reported_of_xsum_is_not_chosen_on(shared):
  folder = str(shared / 'data/generation')
  said = generation.remarks(folder, 'summarization', seed=0)
  assert said[0] == 'dev.json and test.json are the same rows; they are test'


def test_scores_of_copying_a_source_are_low_and_not_zero(shared):
  task = base.load('translation')
  rows = generation.rows(
    str(shared / 'data/generation'), 'translation', 'test', seed=0
  )
  examples = task.examples(rows, 'test')
  found = task.metrics([row['en'] for row in rows], examples)
  assert 0 < found['bleu'] < 10
