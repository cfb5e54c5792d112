"""The networks are torch's, and what a file holds is what they made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.methods import p_tuning
from ptjax.methods.base import Start

TABLE = jnp.asarray(np.random.default_rng(0).normal(size=(61, 8)), jnp.float32)


def method(**changes):
  fields = {'length': 5, 'init': 'vocabulary', 'low': -0.5, 'high': 0.5}
  fields |= {'population': 60, 'template': '', 'encoder': 'lstm', 'hidden': 3}
  return p_tuning.Method(**{**fields, **changes})


def rows(made, own):
  return np.asarray(made.expand(own)['token_embedder']['prompt'])


def created(**changes):
  made = method(**changes)
  return made, made.create(jax.random.key(1), Start(TABLE))


def load(linear, weights):
  import torch

  with torch.no_grad():
    linear.weight.copy_(torch.tensor(np.asarray(weights['kernel']).T))
    linear.bias.copy_(torch.tensor(np.asarray(weights['bias'])))


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def states(weights, x_PxI):
  """Of one direction of an LSTM, by its definition."""
  cell, state, out = 0.0, np.zeros(3), []
  for x_I in x_PxI:
    gates = x_I @ weights['kernel'] + state @ weights['recurrent']
    i, f, g, o = np.split(gates + weights['bias'], 4)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    state = sigmoid(o) * np.tanh(cell)
    out.append(state)
  return np.stack(out)


@pytest.mark.parametrize('encoder', p_tuning.ENCODERS)
def test_the_network_is_the_one_it_is_called(encoder):
  """In numpy; torch's below."""
  made, own = created(encoder=encoder)
  own = jax.tree.map(lambda x: x * 3, own)  # where gates are not linear
  held = jax.tree.map(np.asarray, own['p_tuning'])
  x = held['rows']
  for n in '01' if encoder == 'lstm' else '':
    onward = states(held['lstm'][n]['onward'], x)
    backward = states(held['lstm'][n]['backward'], x[::-1])[::-1]
    x = np.concatenate([onward, backward], axis=1)
  for n, linear in sorted(held['mlp'].items()):
    x = np.maximum(x, 0) if n != '0' else x
    x = x @ linear['kernel'] + linear['bias']
  assert len(held['mlp']) == (2 if encoder == 'lstm' else 3)
  found = rows(made, own)
  assert np.abs(found - x).max() <= 1e-5 * np.abs(x).max()


@pytest.mark.parametrize('encoder', p_tuning.ENCODERS)
def test_the_network_is_torchs_in_pefts_parametrisation(encoder):
  torch = pytest.importorskip('torch', reason='torch is not installed')
  made, own = created(encoder=encoder)
  own = jax.tree.map(lambda x: x * 3, own)  # where gates are not linear
  held = own['p_tuning']
  x = torch.tensor(np.asarray(held['rows']))
  if encoder == 'lstm':
    lstm = torch.nn.LSTM(8, 3, 2, bidirectional=True, batch_first=True)
    for n, way in ((n, w) for n in '01' for w in ('onward', 'backward')):
      weights, end = held['lstm'][n][way], '_reverse' * (way == 'backward')
      for name, value in (
        ('weight_ih', weights['kernel'].T),
        ('weight_hh', weights['recurrent'].T),
        ('bias_ih', weights['bias']),
        ('bias_hh', 0 * weights['bias']),
      ):
        with torch.no_grad():
          parameter = getattr(lstm, f'{name}_l{n}{end}')
          parameter.copy_(torch.tensor(np.asarray(value)))
    x = lstm(x[None])[0][0]
  sizes = (6, 6, 8) if encoder == 'lstm' else (8, 3, 3, 8)
  for n in range(len(sizes) - 1):
    x = torch.relu(x) if n else x
    linear = torch.nn.Linear(sizes[n], sizes[n + 1])
    load(linear, held['mlp'][str(n)])
    x = linear(x)
  expected = x.detach().numpy()
  found = rows(made, own)
  assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize('encoder', p_tuning.ENCODERS)
def test_a_file_holds_the_virtual_tokens_alone(encoder):
  made, own = created(encoder=encoder)
  kept = made.kept(own | {'model': {'x': 1}})
  assert set(kept) == {'prompt', 'model'}
  np.testing.assert_array_equal(kept['prompt']['encoder'], rows(made, own))
  np.testing.assert_array_equal(rows(made, kept), rows(made, own))
  assert np.ptp(rows(made, own), axis=0).min() > 1e-3  # each its own


def test_sizes_are_the_papers_unless_said_and_the_templates():
  _, own = created(hidden=0)
  assert own['p_tuning']['lstm']['0']['onward']['recurrent'].shape == (4, 16)
  _, own = created(hidden=0, encoder='mlp')
  assert own['p_tuning']['mlp']['1']['kernel'].shape == (8, 8)
  made, own = created(template='{2} {input} {#7} {1}')
  assert rows(made, own).shape == (3, 8) and made.front == 4


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'encoder': 'lsm'}, "method.encoder='lsm' is not known, .* 'lstm'"),
    ({'hidden': -1}, 'method.hidden=-1 must be at least 0'),
    ({'length': 0}, 'method.length=0 must be'),
    ({'template': '{3}'}, 'no place for the input'),
  ],
)
def test_what_cannot_be_is_told(changes, sentence):
  with pytest.raises(UserError, match=sentence):
    method(**changes)
