"""Adapters: where they stand, their start, and their formula in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from goldens import causal_models, t5_models

from ptjax import config as config_lib
from ptjax import tree
from ptjax.config import UserError
from ptjax.export import maps
from ptjax.methods import adapters, base
from ptjax.models import layers, ports
from ptjax.tuned import base as tuned_base
from ptjax.weights import families, load

I, O, R, N = 5, 7, 3, 4


def create(method: adapters.Method, **linears: tuple) -> dict:
  start = base.Start(
    jnp.zeros((2, 2)),
    linears={k: base.Linear(*v) for k, v in linears.items()},
  )
  return tree.flatten(method.create(jax.random.key(0), start))


def test_the_first_map_is_small_noise_and_all_else_zero():
  found = create(adapters.Method(bottleneck=R, targets=()), out=((N,), I, (O,)))
  shapes = {name: leaf.shape for name, leaf in found.items()}
  assert shapes == {
    'adapters/out/adapter_down': (N, O, R),
    'adapters/out/adapter_down_bias': (N, R),
    'adapters/out/adapter_up': (N, R, O),
    'adapters/out/adapter_up_bias': (N, O),
  }
  for name, leaf in found.items():
    if not name.endswith('down'):
      assert not leaf.any()
      continue
    assert np.abs(leaf).max() <= 2 * adapters.STDDEV
    assert 0.5 < leaf.std() / adapters.STDDEV < 1.2


def test_a_map_gives_itself_and_a_bottleneck_of_what_it_gives():
  """Houlsby's formula, in numpy; torch's below."""
  rng = np.random.default_rng(0)
  drawn = {
    'kernel': (I, O),
    'bias': (O,),
    'adapter_down': (O, R),
    'adapter_down_bias': (R,),
    'adapter_up': (R, O),
    'adapter_up_bias': (O,),
  }
  p = {k: rng.normal(size=s).astype(np.float32) for k, s in drawn.items()}
  variables = {
    'params': {k: p.pop(k) for k in ('kernel', 'bias')},
    ports.COLLECTION: p,
  }
  x = rng.normal(size=(2, 4, I)).astype(np.float32)
  linear = layers.Linear(O, ('embed', 'mlp'), 1.0, bias=True)
  y = x @ variables['params']['kernel'] + variables['params']['bias']
  hidden = y @ p['adapter_down'] + p['adapter_down_bias']
  inner = np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)
  hidden = 0.5 * hidden * (1 + np.tanh(inner))
  expected = y + hidden @ p['adapter_up'] + p['adapter_up_bias']
  found = linear.apply(variables, x)
  assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_they_stand_behind_each_sublayer_or_where_one_says():
  model, params = tiny.t5()
  c = config_lib.default()
  c.method.name, c.method.bottleneck = 'adapters', R

  def scopes() -> set[str]:
    made = tuned_base.make(model, base.make(c.method))
    names = made.own_shapes(params)
    return {n.removeprefix('adapters/').rpartition('/')[0] for n in names}

  assert scopes() == {
    'encoder/layers/attention/out',
    'encoder/layers/mlp/wo',
    'decoder/layers/self_attention/out',
    'decoder/layers/cross_attention/out',
    'decoder/layers/mlp/wo',
  }
  c.method.targets = ('mlp/wo',)
  assert scopes() == {'encoder/layers/mlp/wo', 'decoder/layers/mlp/wo'}


def test_norms_train_with_them():
  model, params = tiny.t5()
  c = config_lib.default()
  c.method.name = 'adapters'
  made = tuned_base.make(model, base.make(c.method))
  tuned, frozen = made.init(jax.random.key(0), params)
  names = tree.flatten(tuned['model'])
  assert set(names) == {
    f'{side}/{norm}/scale'
    for side, norms in (
      ('encoder', ('norm', 'layers/pre_attention_norm', 'layers/pre_mlp_norm')),
      (
        'decoder',
        (
          'norm',
          'layers/pre_self_attention_norm',
          'layers/pre_cross_attention_norm',
          'layers/pre_mlp_norm',
        ),
      ),
    )
    for norm in norms
  }
  assert not any('norm' in name for name in tree.flatten(frozen))


def test_what_cannot_be_is_refused():
  with pytest.raises(UserError, match='method.bottleneck=0 must be at least 1'):
    adapters.Method(bottleneck=0, targets=())
  method = adapters.Method(bottleneck=R, targets=('query',))
  with pytest.raises(UserError, match=r'one axis of features, not \(2, 3\)'):
    create(method, query=((N,), I, (2, 3)))


@pytest.mark.full  # torch and transformers take seconds to import
@pytest.mark.parametrize(
  'golden,case',
  [
    (t5_models, 't5_1_1'),
    (causal_models, 'gpt2'),
    (causal_models, 'pythia'),
    (causal_models, 'llama'),
  ],
)
def test_torch_with_the_same_behind_its_maps_says_the_same(golden, case):
  torch = pytest.importorskip('torch', reason='torch is not installed')
  pytest.importorskip('transformers', reason='transformers is not installed')
  from goldens import peft_adapters

  folder = golden.FOLDER / case
  loaded = load.load(str(folder))
  c = config_lib.default()
  c.method.name, c.method.bottleneck = 'adapters', R
  made = tuned_base.make(loaded.model, base.make(c.method))
  tuned, frozen = made.init(jax.random.key(0), loaded.params)
  rng = np.random.default_rng(0)
  own = jax.tree.map(
    lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32),
    tuned['adapters'],
  )
  model = peft_adapters.network(folder)
  modules = dict(model.named_modules())
  rows = families.of_config(loaded.config).tensors(loaded.config)
  filled, count = tree.flatten(own), 0
  for map_ in maps.of(rows):
    if f'{map_.scope}/adapter_down' not in filled:
      continue
    for layer, name in enumerate(map_.modules):
      filling = {
        port: torch.tensor(np.asarray(filled[f'{map_.scope}/{port}'][layer]))
        for port in (
          'adapter_down',
          'adapter_down_bias',
          'adapter_up',
          'adapter_up_bias',
        )
      }

      def behind(module, inputs, y, p=filling):
        hidden = y @ p['adapter_down'] + p['adapter_down_bias']
        hidden = torch.nn.functional.gelu(hidden, approximate='tanh')
        return y + hidden @ p['adapter_up'] + p['adapter_up_bias']

      modules[name].register_forward_hook(behind)
      count += 1
  sublayers = 5 if golden is t5_models else 2
  assert count >= 2 * sublayers - 2
  expected = peft_adapters.said(model)['logits']
  given = peft_adapters.given(loaded.config.vocab_size)
  batch = {
    **given,
    'input_mask': np.ones(given['inputs'].shape, bool),
    'target_mask': np.ones(given['targets'].shape, bool),
  }
  logits = made.logits({**tuned, 'adapters': own}, frozen, batch)
  difference = np.abs(logits - expected).max() / np.abs(expected).max()
  print(f'\nrelative difference {case}: {difference:.1e}')
  assert difference <= 1e-5
