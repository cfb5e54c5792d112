"""The pretraining story runs for either family and leaves a model."""

import importlib.util
import pathlib

import numpy as np
import pytest
import tokenizers

from ptjax import pretrain
from ptjax.config import UserError
from ptjax.weights import load

CONFIG = pathlib.Path(__file__).parents[2] / 'configs' / 'pretrain.py'
SHORT = (
  'pretrain.order=(first),pretrain.phases.first.most=2,'
  'pretrain.phases.first.batch_size=4,pretrain.lengths=(28,),'
  'pretrain.chunk=60,pretrain.held_out=20,pretrain.model.num_layers=1'
)


def config(arg: str):
  spec = importlib.util.spec_from_file_location('pretrain_config', CONFIG)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(arg)


def test_it_runs_and_leaves_a_model(tmp_path):
  pretrain.run(config(SHORT), tmp_path)
  made = load.load(str(tmp_path / 'model'), dtype='float32')
  table = made.params['encoder']['relative_bias']['embedding']
  # The first head looks a few tokens behind, and not ahead.
  assert np.all(table[1:5, 0] > table[17:21, 0] + 2)


def test_models_are_kept_by_the_steps_of_all_phases(tmp_path):
  """Whatever is evaluated when: phases end where their gates open."""
  words = SHORT.replace('(first)', '(spans,first)').replace('most=2', 'most=3')
  words += ',pretrain.phases.spans.most=1,pretrain.phases.spans.batch_size=4'
  pretrain.run(config(f'{words},pretrain.keep_every=2'), tmp_path)
  there = sorted(path.name for path in tmp_path.iterdir())
  assert there == ['model', 'model-2', 'model-4']
  kept = load.load(str(tmp_path / 'model-2')).fingerprint
  assert kept != load.load(str(tmp_path / 'model')).fingerprint


def test_it_leaves_a_gpt_and_goes_on_from_it(tmp_path, capsys):
  pretrain.run(config(f'family=gpt,{SHORT}'), tmp_path / 'a')
  folder = tmp_path / 'a' / 'model'
  made = load.load(str(folder))
  tokenizer = tokenizers.Tokenizer.from_file(str(folder / 'tokenizer.json'))
  assert made.config.num_layers == 1 and made.config.parallel_residual
  assert made.config.rotary_size == 16
  assert made.config.vocab_size == tokenizer.get_vocab_size()
  assert made.config.eos_id == tokenizer.token_to_id('</s>')
  assert made.config.pad_id == tokenizer.token_to_id('<pad>')
  begin = f'family=gpt,{SHORT},pretrain.begin={folder},pretrain.lr=0.0'
  pretrain.run(config(begin), tmp_path / 'b')
  again = load.load(str(tmp_path / 'b' / 'model'))
  assert again.fingerprint == made.fingerprint
  assert 'content' in capsys.readouterr().out


def test_an_unknown_family_is_refused():
  with pytest.raises(UserError, match="family='gtp'.*t5, gpt"):
    config('family=gtp')
