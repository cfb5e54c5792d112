"""A load by processes is measured as it is: shares, peaks, what is read."""

import json

import jax
import numpy as np
import pytest

from ptjax.bench import __main__ as command
from ptjax.bench import load, load_tables
from ptjax.models.t5 import T5Config
from ptjax.weights import load as weights

# 4 MB, so that a share is seen above what a process takes for itself.
TINY = T5Config(400, 128, 8, 320, 3, 2, 16)


@pytest.mark.parametrize('gigabytes', [1, 4])
def test_the_checkpoint_is_as_large_as_asked_for(gigabytes):
  for itemsize in (2, 4):
    config = load.sizes(gigabytes, itemsize)
    bytes_ = itemsize * load._values(config)
    assert bytes_ == pytest.approx(gigabytes * 1e9, rel=0.06)


def test_it_is_a_model_in_several_files(tmp_path):
  total = load.write(tmp_path / 'model', TINY, dtype='float32')
  files = sorted(tmp_path.glob('model/*.safetensors'))
  assert len(files) == 4
  assert total < sum(f.stat().st_size for f in files) < 1.02 * total
  params = weights.load(str(tmp_path / 'model')).params
  leaves = list(map(np.asarray, jax.tree.leaves(params)))
  assert sum(leaf.nbytes for leaf in leaves) == total
  assert all(0.02 < leaf.std() < 0.05 for leaf in leaves)


def full(*values):
  return pytest.param(*values, marks=pytest.mark.full)


@pytest.mark.parametrize('cut', ['tensor', full('fsdp')])
def test_each_process_says_what_it_holds_and_reads(cut):
  plan = load.plan(processes=(2,), cuts=(cut,))
  (row,) = load.run(plan, config=TINY)['rows']
  total = row['gigabytes'] * 1e9
  assert len(row['each']) == 2
  for one in row['each']:
    # Norms and relative biases lie whole in each.
    assert total / 2 < one['share'] < 1.1 * total / 2
    assert 2 * one['largest'] == 4 * 3 * 128 * 320  # wi of the encoder
    assert one['seconds'] > 0
    # Half for the fingerprint; rows of files are outputs, so that over fsdp
    # each reads all of a kernel for its part.
    reads = (one['read'] - total / 2) / total
    assert 0.9 < reads < 1.1 if cut == 'fsdp' else 0.5 < reads < 0.8
  said = '\n'.join(load_tables.tell({**ABOUT, 'rows': [row]}))
  assert cut in said and ('met' in said or 'missed' in said)


ABOUT = {
  'repeats': 0,
  'machine': {
    **{'device': 'cpu', 'platform': 'cpu', 'cores': 2},
    **{'load': 0.0, 'jax': '0'},
  },
}


def test_the_process_that_takes_most_is_judged():
  each = [
    {'seconds': 1, 'peak': 100 + over, 'share': 100, 'largest': 10, 'read': 9}
    for over in (1, 14)
  ]
  row = load._row(10**9, 2, 'fsdp', 'float32', each)
  assert row['over'] == 1.4
  said = '\n'.join(load_tables.tell({**ABOUT, 'rows': [row]}))
  assert 'missed' in said
  json.dumps(row)


@pytest.mark.parametrize(
  'words,said',
  [
    ('--gigabytes=0', '--gigabytes=0.0 must be above 0'),
    ('--gigabytes=9e9', 'GB left; make it smaller'),
    ('--cut=fsbp', "did you mean 'fsdp'"),
    ('--dtype=int4', 'it can be float32, bfloat16, int8'),
    ('--processes=0', '--processes must be 1 or more'),
    ('--processes=2,3', '--processes=3 does not divide the 16 heads'),
  ],
)
def test_a_mistake_is_one_sentence(words, said, capsys):
  assert command.main(['load', *words.split()]) == 2
  printed = capsys.readouterr().err
  assert said in printed and printed.count('\n') == 1
