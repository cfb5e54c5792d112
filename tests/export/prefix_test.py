"""A prefix of PEFT, both ways: against PEFT itself, and as recorded."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
from goldens import peft_adapters

from export import peft_test
from export.peft_test import (
  MODELS,
  assert_peft_takes,
  assert_same,
  loaded,
  said,
)
from ptjax import config as config_lib
from ptjax import convert, prompted, tree
from ptjax.config import UserError
from ptjax.export import names, peft, prefix
from ptjax.export.prompt import Prompt

theirs = peft_test.theirs  # where PEFT is not installed, skips
CAUSAL = ('gpt2', 'pythia', 'llama')
SIZES = {'gpt2': (3, 3, 5), 'pythia': (2, 3, 8), 'llama': (2, 2, 4)}
LENGTH = 4


def random_prefix(name: str, scale: float = 1.0) -> Prompt:
  rng = np.random.default_rng(8)
  layers, heads, size = SIZES[name]
  shapes = {
    'prefix_key': (layers, heads, size, LENGTH),
    'prefix_value': (layers, heads, LENGTH, size),
  }
  ports = {
    port: scale * rng.normal(size=shape).astype(np.float32)
    for port, shape in shapes.items()
  }
  own = {'prefix_tuning': {'layers': {'attention': ports}}}
  record = {'method': {'name': 'prefix_tuning', 'length': LENGTH}}
  return Prompt('p', own, record, 'p')


def export(found: Prompt, folder, name: str) -> None:
  c = config_lib.default()
  c.model = str(MODELS[name])
  convert.run(c, [found], str(folder), form='peft')


@pytest.mark.parametrize(
  'name',
  ['llama', *(pytest.param(n, marks=pytest.mark.full) for n in CAUSAL[:2])],
)
def test_peft_loads_what_is_written_and_would_write_the_same(
  name, theirs, tmp_path
):
  found = random_prefix(name)
  export(found, tmp_path / 'ours', name)
  assert_peft_takes(found, name, theirs, tmp_path)


@pytest.mark.parametrize('projection', [False, True])
@pytest.mark.parametrize(
  'name',
  ['llama', *(pytest.param(n, marks=pytest.mark.full) for n in CAUSAL[:2])],
)
def test_what_peft_writes_says_the_same_here(
  name, projection, theirs, tmp_path
):
  """Flat, and what an mlp came to."""
  settings = {'prefix_projection': projection, 'encoder_hidden_size': 7}
  model = peft_adapters.network(MODELS[name])
  model = peft_adapters.adapter(model, 'PrefixTuningConfig', **settings)
  model.save_pretrained(tmp_path)
  (found,) = names.find(str(tmp_path))
  expected = peft_adapters.said(model)
  assert_same(said(name, [found]), expected, name)
  alone = said(name, [])['logits']
  assert np.abs(alone - expected['logits']).max() > 0.1


def test_what_peft_wrote_says_what_it_said():
  """As recorded, with neither PEFT nor torch; written again it is the same."""
  (found,) = names.find(str(peft_adapters.PREFIX))
  recorded = np.load(peft_adapters.PREFIX / peft_adapters.SAID)
  assert_same(said('llama', [found]), recorded, 'llama', every=7)
  tensors, settings = prefix.adapter(found)
  raw = (peft_adapters.PREFIX / peft.MODEL).read_bytes()
  assert safetensors.numpy.save(tensors, {'format': 'pt'}) == raw
  values = json.loads((peft_adapters.PREFIX / peft.CONFIG).read_text())
  assert settings.items() <= values.items()


@pytest.fixture
def folder(tmp_path):
  """The recorded adapter, to be changed."""
  return shutil.copytree(peft_adapters.PREFIX, tmp_path / 'adapter')


@pytest.mark.parametrize(
  'values,sentence',
  [
    ({'task_type': 'SEQ_2_SEQ_LM'}, 'PEFT wires it wrongly: .* slots 4l'),
    ({'task_type': 'SEQ_CLS'}, 'task_type SEQ_CLS, but'),
    ({'num_layers': None}, 'num_layers is None, expected a whole number'),
    ({'num_layers': 3}, r'a prefix of 3 places for 3 layers is prompt_embed'),
    ({'num_virtual_tokens': 2}, 'a prefix of 2 places'),
    ({'num_attention_heads': 5}, 'token_dim is 8, expected a multiple of its'),
    ({'num_transformer_submodules': 2}, 'num_transformer_submodules is 2, exp'),
    ({'modules_to_save': ['lm_head']}, r"modules_to_save=\['lm_head'\]"),
  ],
)
def test_what_is_not_as_peft_writes_it_is_refused(folder, values, sentence):
  path = folder / peft.CONFIG
  path.write_text(json.dumps(json.loads(path.read_text()) | values))
  with pytest.raises(UserError, match=sentence) as error:
    names.find(str(folder))
  assert '\n' not in str(error.value) and str(folder) in str(error.value)


def test_torn_and_foreign_files_are_refused(folder):
  path = folder / peft.MODEL
  (good,) = safetensors.numpy.load_file(path).values()
  for tensors, sentence in (
    ({'prompt_embeddings': good, 'head': good}, 'alone'),
    ({'prompt_embeddings': good * np.nan}, 'not finite'),
    ({'prompt': good}, 'holds prompt'),
  ):
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(UserError, match=sentence):
      names.find(str(folder))


def test_another_models_prefix_is_refused(tmp_path):
  """By its name, and without one by the shapes of its keys."""
  (found,) = names.find(str(peft_adapters.PREFIX))
  with pytest.raises(UserError, match=r'is of goldens/llama, not of \S*gpt2'):
    peft.misfit(found, prompted.base(loaded('gpt2')))
  with pytest.raises(UserError, match=r'prefix_key .* has shape .* needs \('):
    said('gpt2', [random_prefix('llama')])
  with pytest.raises(UserError, match=r'of \(2, 2, 4\) layers, .* \(3, 3, 5\)'):
    export(random_prefix('llama'), tmp_path / 'a', 'gpt2')
  assert not (tmp_path / 'a').exists()


def test_a_t5s_prefix_does_not_go_to_peft(tmp_path):
  own = tree.unflatten(
    {'prefix_tuning/encoder/layers/attention/prefix_key': np.ones((2, 3, 5, 4))}
  )
  found = Prompt('p', own, {'method': {'name': 'prefix_tuning'}}, 'mine')
  with pytest.raises(UserError, match='mine holds encoder.* wrong layers'):
    export(found, tmp_path / 'a', 't5_1_1')
  with pytest.raises(UserError, match='mine is no soft prompt alone'):
    c = config_lib.default()
    convert.run(c, [found], str(tmp_path / 'p.npy'), form='npy')
