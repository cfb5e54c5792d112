"""Ports in the weights: the formula, whose biases have a place, and torch."""

import jax
import numpy as np
import pytest
import tiny
from goldens import causal_models, peft_adapters, t5_models

from ptjax import config as config_lib
from ptjax import convert, prompted, tree
from ptjax.config import UserError
from ptjax.export import merge
from ptjax.export.prompt import Prompt
from ptjax.methods import base
from ptjax.tuned import base as tuned_base
from ptjax.weights import load, table

N, I, R, H, K = 3, 5, 2, 3, 7
FOLDERS = {
  case: golden.FOLDER / case
  for golden, cases in (
    (t5_models, ('t5_1_0', 't5_1_1')),
    (causal_models, ('gpt2', 'pythia', 'neox_sequential', 'llama')),
  )
  for case in cases
}
SETTINGS = {
  'lora': {'rank': R, 'alpha': 3.0 * R},
  'lora of others': {'rank': R, 'alpha': 0.5, 'targets': ('wo', 'out')},
  'lora of the head': {'rank': R, 'alpha': 0.5, 'targets': ('head', 'wi_1')},
  'ia3': {},
  'bitfit': {},
}


def drawn(*shape: int) -> np.ndarray:
  rng = np.random.default_rng(shape)
  return rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('stack', [(), (N,)])
@pytest.mark.parametrize('own_bias', [True, False])
def test_a_map_says_alone_what_it_says_with_all_ports(stack, own_bias):
  ports = {
    'scale_in': drawn(*stack, I),
    'lora_a': drawn(*stack, I, R),
    'lora_b': drawn(*stack, R, H, K),
    'delta_bias': drawn(*stack, H, K),
    'scale': drawn(*stack, H, K) + 2,
  }
  params = {'kernel': drawn(*stack, I, H, K)}
  if own_bias:
    params['bias'] = drawn(*stack, H, K) + 1
  rows = [
    table.Tensor('map/kernel', '{}', (I, H, K), *stack),
    table.Tensor('map/bias', '{}', (H, K), *stack),
  ]
  found = merge.folded({'map': params}, {'map': ports}, rows)['map']
  layers = range(N) if stack else [()]
  for x_I, layer in zip(drawn(N, I), layers):
    kernel, bias = params['kernel'][layer], params.get('bias', np.zeros((H, K)))
    p = {name: array[layer] for name, array in ports.items()}
    inner = x_I * p['scale_in']
    low = np.tensordot(inner @ p['lora_a'], p['lora_b'], 1)
    y = np.tensordot(inner, kernel, 1) + low
    y = y + bias[layer if own_bias else ...] + p['delta_bias']
    alone = np.tensordot(x_I, found['kernel'][layer], 1) + found['bias'][layer]
    np.testing.assert_allclose(alone, y * p['scale'], rtol=1e-4, atol=1e-5)


def test_what_has_no_port_stays_as_it_is():
  params = {'norm': {'scale': drawn(I), 'bias': drawn(I)}, 'table': drawn(2, I)}
  ports = {'norm': {'delta_bias': np.ones(I)}}
  rows = [table.Tensor('norm/bias', 'ln.bias', (I,))]
  found = merge.folded(params, ports, rows)
  np.testing.assert_array_equal(
    found['norm']['bias'], params['norm']['bias'] + 1
  )
  assert found['norm']['scale'] is params['norm']['scale']
  assert found['table'] is params['table']


def tuned(folder, method: str) -> Prompt:
  """A file of a method at random values."""
  loaded, c = load.load(str(folder)), config_lib.default()
  c.method.update({'name': method.split()[0], **SETTINGS[method]})
  made = tuned_base.make(loaded.model, base.make(c.method))
  own = {
    name: 0.3 * drawn(*shape) + float('scale' in name.rpartition('/')[2])
    for name, shape in made.own_shapes(loaded.params).items()
  }
  record = {'method': c.method.to_dict()}
  return Prompt('p', tree.unflatten(own), record, 'p.safetensors')


def config_of(folder, tokenizers):
  c = config_lib.default()
  c.model = str(folder)
  c.tokenizer = str(tokenizers[folder.parent.name == 'causal'])
  return c


@pytest.fixture(scope='module')
def tokenizers(tmp_path_factory):
  """{whether it is of a decoder-only model: its folder}."""
  folder = tmp_path_factory.mktemp('pieces')
  t5 = tiny.model_folder(folder / 't5')
  return {False: t5, True: tiny.gpt_folder(folder / 'gpt')}


FULL = pytest.mark.full


@pytest.mark.parametrize(
  'method,case',
  [
    ('lora', 't5_1_1'),
    ('ia3', 'gpt2'),
    ('bitfit', 'llama'),
    pytest.param('lora', 'gpt2', marks=FULL),
    pytest.param('lora', 'pythia', marks=FULL),
    pytest.param('lora', 'llama', marks=FULL),
    pytest.param('lora of the head', 't5_1_1', marks=FULL),
    pytest.param('lora of others', 'gpt2', marks=FULL),
    pytest.param('ia3', 't5_1_0', marks=FULL),
    pytest.param('ia3', 't5_1_1', marks=FULL),
    pytest.param('ia3', 'pythia', marks=FULL),
    pytest.param('ia3', 'llama', marks=FULL),
    pytest.param('bitfit', 'gpt2', marks=FULL),
    pytest.param('bitfit', 'neox_sequential', marks=FULL),
  ],
)
def test_transformers_says_it_without_ports(method, case, tokenizers, tmp_path):
  pytest.importorskip('torch', reason='torch is not installed')
  pytest.importorskip('transformers', reason='transformers is not installed')
  folder, found = FOLDERS[case], tuned(FOLDERS[case], method)
  c = config_of(folder, tokenizers)
  convert.run(c, [found], str(tmp_path), form='hf')
  made, own, frozen = prompted.with_prompts(c, [found])
  given = peft_adapters.given(made.loaded.config.vocab_size)
  rows = given | {
    'input_mask': np.ones(given['inputs'].shape, bool),
    'target_mask': np.ones(given['targets'].shape, bool),
  }
  logits = jax.jit(made.tuned_model.logits)(tree.at(own, 0), frozen, rows)
  expected = peft_adapters.said(peft_adapters.network(tmp_path))['logits']
  size = np.abs(expected).max()
  difference = np.abs(logits - expected).max() / size
  print(f'\nrelative difference {method}, {case}: {difference:.1e}')
  assert difference <= 1e-5
  before = peft_adapters.said(peft_adapters.network(folder))['logits']
  assert np.abs(before - expected).max() > 1e-2 * size


@pytest.mark.parametrize(
  'case,method,changes,sentence',
  [
    ('t5_1_1', 'bitfit', {}, r'holds a bias of \S+/out, .* no place for one'),
    ('gpt2', 'lora', {'weights': 'int8'}, 'weights=int8 rounds the weights of'),
  ],
)
def test_what_no_file_of_transformers_holds_is_told(
  case, method, changes, sentence, tokenizers, tmp_path
):
  c = config_of(FOLDERS[case], tokenizers)
  c.update(changes)
  found = tuned(FOLDERS[case], method)
  with pytest.raises(UserError, match=sentence):
    convert.run(c, [found], str(tmp_path / 'm'), form='hf')
  assert not (tmp_path / 'm').exists()


@pytest.mark.parametrize(
  'own,sentence',
  [
    ({'adapters': {'x': {'adapter_up': 1}}}, 'an activation stands between'),
    ({'input': {'up': 1}}, 'changes none: it holds input/up'),
    ({'prefix_tuning': {'x': 1}}, 'changes none: it holds prefix_tuning/x'),
  ],
)
def test_what_no_weight_can_hold_is_told(own, sentence):
  with pytest.raises(UserError, match=sentence):
    merge.check(Prompt('p', own, {}, 'p.safetensors'))
