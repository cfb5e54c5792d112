"""The real SuperGLUE files through every task: sizes, labels, no remarks."""

import pytest

from ptjax.data import source
from ptjax.tasks import base

# Lester et al. 2021, table 7: examples of train and validation.
SIZES = {
  'boolq': (None, 3270),
  'cb': (250, 56),
  'copa': (400, 100),
  'multirc': (27_243, 4848),
  'rte': (2490, 277),
  'wic': (5428, 638),
  'wsc': (259, 104),
}
TESTS = {
  'boolq': 3245,
  'cb': 250,
  'copa': 500,
  'multirc': 9693,
  'rte': 3000,
  'wic': 1400,
  'wsc': 146,
}
# What the commonest training label scores on the validation set, counted from
# the labels in the files. WSC: 66 of 104 are False.
MAJORITY = {
  'cb': 100 * 28 / 56,
  'copa': 100 * 45 / 100,
  'rte': 100 * 146 / 277,
  'wic': 50,
  'wsc': 100 * 66 / 104,
}


@pytest.fixture(scope='module')
def files(shared):
  return str(shared / 'data/superglue')


@pytest.mark.parametrize('name', SIZES)
def test_published_sizes(files, name):
  task = base.load(name)
  for split, size in zip(('train', 'dev'), SIZES[name]):
    if size is None:
      continue
    examples = task.examples(source.superglue(files, name, split), split)
    assert task.counted(examples) == len(examples) == size
    assert task.labelled(examples) and not task.remarks(examples)
    right = [e.targets for e in examples]
    assert task.invalid(right, examples) == 0
    if split == 'dev' and name != 'wsc':
      assert set(task.metrics(right, examples).values()) == {100}


@pytest.mark.parametrize('name', TESTS)
def test_test_splits_have_no_labels(files, name):
  task = base.load(name)
  examples = task.examples(source.superglue(files, name, 'test'), 'test')
  assert len(examples) == TESTS[name]
  assert not task.labelled(examples)


@pytest.mark.parametrize('name', MAJORITY)
def test_majority_class(files, name):
  task = base.load(name)
  train, dev = (
    task.examples(source.superglue(files, name, split), split)
    for split in ('train', 'dev')
  )
  said = task.majority_answers(train, dev)
  assert task.metrics(said, dev)['accuracy'] == pytest.approx(MAJORITY[name])


def test_wsc_right_nouns_are_right(files):
  task = base.load('wsc')
  dev = task.examples(source.superglue(files, 'wsc', 'dev'), 'dev')
  said = [e.targets for e in dev]
  # Saying each row's own noun is right where it is meant.
  assert task.metrics(said, dev)['accuracy'] == pytest.approx(100 * 38 / 104)


@pytest.mark.parametrize(
  'name, size, metric', [('axb', 1104, 'matthews'), ('axg', 356, 'accuracy')]
)
def test_diagnostics(files, name, size, metric):
  task = base.load(name)
  examples = task.examples(source.superglue(files, name, 'test'), 'test')
  assert len(examples) == size
  right = [e.targets for e in examples]
  found = task.metrics(right, examples)
  assert list(found) == list(task.metric_names)
  assert all(value == pytest.approx(100) for value in found.values())
  constant = task.metrics(['entailment'] * size, examples)
  assert constant[metric] == (0 if name == 'axb' else 50)


def test_winogender_rows_are_paired_by_idx(files):
  rows = source.superglue(files, 'axg', 'test')
  for first, second in zip(rows[::2], rows[1::2]):
    assert first['idx'] // 2 == second['idx'] // 2
    assert first['hypothesis'] == second['hypothesis']
    assert first['label'] == second['label']
    assert first['premise'] != second['premise']


@pytest.mark.parametrize('name', [*SIZES, 'record'])
def test_few_shot_files(shared, name):
  folder = str(shared / 'data/fewglue_32dev')
  task = base.load(name)
  for split in ('train', 'dev'):
    rows = source.superglue(folder, name, split)
    assert len(rows) == 32
    if split == 'train':
      # Its rows are cut as few-shot learning counts: nothing to cut.
      assert len(task.units(rows)) == 32
    examples = task.examples(rows, split)
    assert len(examples) >= 32 and task.labelled(examples)
    if name == 'record':
      for example in examples:
        assert example.targets in example.choices
        assert '@highlight' not in example.inputs
        assert '@placeholder' in example.inputs
      right = [e.targets for e in examples]
      assert task.metrics(right, examples) == {'em': 100, 'f1': 100}
      assert task.counted(examples) == 32
