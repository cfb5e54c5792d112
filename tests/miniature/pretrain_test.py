"""The pretraining story runs, and its span corruption loses nothing."""

import importlib.util
import pathlib
import random

import numpy as np

from ptjax import pretrain
from ptjax.weights import load

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'pretrain.py'


def config(arg: str):
  spec = importlib.util.spec_from_file_location('pretrain_config', CONFIG)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(arg)


def test_spans_put_back_give_the_text():
  rng = random.Random(0)
  for length in range(4, 60):
    ids = [rng.randrange(300, 600) for _ in range(length)]
    inputs, targets = pretrain.corrupt(rng, ids, first_sentinel=999)
    assert inputs[-1] == targets[-1] == pretrain.EOS
    spans, sentinel = {}, None
    for id in targets[:-1]:
      if id > 900:
        sentinel = id
        spans[id] = []
      else:
        spans[sentinel].append(id)
    whole = []
    for id in inputs[:-1]:
      whole += spans[id] if id > 900 else [id]
    assert whole == ids


def test_it_runs_and_leaves_a_model(tmp_path):
  words = (
    'pretrain.order=(first),pretrain.phases.first.most=2,'
    'pretrain.phases.first.batch_size=4,pretrain.lengths=(28,),'
    'pretrain.chunk=60,pretrain.held_out=20,pretrain.model.num_layers=1'
  )
  pretrain.run(config(words), tmp_path)
  made = load.load(str(tmp_path / 'model'), dtype='float32')
  table = made.params['encoder']['relative_bias']['embedding']
  # The first head looks a few tokens behind, and not ahead.
  assert np.all(table[1:5, 0] > table[17:21, 0] + 2)
