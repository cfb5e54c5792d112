"""Weights kept in eight bits, from files to logits."""

import jax
import numpy as np
import pytest
from goldens import causal_models, t5_models

from ptjax import tree
from ptjax.config import UserError
from ptjax.methods import model_tuning, none
from ptjax.models import int8
from ptjax.tuned import base
from ptjax.weights import block, families, load
from weights import load_test

FOLDERS = {
  't5_1_1': t5_models.FOLDER / 't5_1_1',  # rows of the file are outputs
  'gpt2': causal_models.FOLDER / 'gpt2',  # rows of the file are inputs
  'pythia': causal_models.FOLDER / 'pythia',  # heads, then queries and keys
  'llama': causal_models.FOLDER / 'llama',
}


def loaded(name, **options):
  return load.load(str(FOLDERS[name]), **options)


def rounded(params):
  """What eight bits leave of the same weights, in float32; and the scales."""
  values, scales = {}, {}
  for name, leaf in tree.flatten(params).items():
    values[name] = np.asarray(leaf)
    if 'layers' in name.split('/') and name.endswith('/kernel'):
      scale = np.abs(values[name]).max(axis=1, keepdims=True) / np.float32(127)
      values[name] = np.rint(values[name] / scale) * scale
      scales[name.removesuffix('kernel') + int8.SCALE] = scale[:, 0]
  return tree.unflatten(values), scales


def said(model, params):
  """Logits of a few ids, the model's own way."""
  rng = np.random.default_rng(0)
  ids = rng.integers(3, model.config.vocab_size, (3, 40)).astype(np.int32)
  rows = ids, ids >= 0, *([ids[:, :9]] if hasattr(model, 'encode') else [])
  return np.asarray(jax.jit(model.apply)({'params': params}, *rows))


@pytest.mark.parametrize('name', FOLDERS)
def test_a_model_is_the_one_whose_layers_were_rounded(name, monkeypatch):
  """All else is as it was, and the logits of the rounded one are its own."""
  monkeypatch.setattr(block, '_CHUNK', 100)  # a few rows at a time
  whole = loaded(name)
  eight = loaded(name, int8=True)
  want, scales = rounded(whole.params)
  assert tree.count(eight.params) == tree.count(whole.params)
  held = tree.flatten(eight.params)
  assert len(scales) >= 4
  for path, scale in scales.items():
    kernel = path.removesuffix(int8.SCALE) + 'kernel'
    assert held[kernel].dtype == np.int8 and held[path].dtype == np.float32
    np.testing.assert_allclose(held[path], scale, rtol=1e-6)
    found = np.asarray(held.pop(kernel) * np.expand_dims(held.pop(path), 1))
    # A value half way between two may go to either.
    apart = np.abs(found - tree.flatten(want)[kernel]) > 1e-5 * scale[:, None]
    assert apart.mean() < 1e-3, kernel
  for path, leaf in held.items():
    np.testing.assert_array_equal(leaf, tree.flatten(want)[path], path)
  found, near = said(eight.model, eight.params), said(whole.model, want)
  far = said(whole.model, whole.params)
  largest = np.abs(far).max()
  assert np.abs(found - near).max() < 1e-5 * largest
  # Beside them bfloat16, in which activations are rounded too.
  narrow = loaded(name, dtype='bfloat16')
  halves = said(narrow.model, narrow.params)
  eights, halves = (np.abs(x - far).max() / largest for x in (found, halves))
  print(f'{name}: eight bits {eights:.3f}, bfloat16 {halves:.3f}')
  assert 1e-3 < eights < 0.2 and 1e-3 < halves < 0.2


@pytest.mark.parametrize('name', FOLDERS)
def test_devices_round_their_own_part_by_the_scale_of_all(name):
  """Also where the inputs of a map are cut, as over fsdp."""
  source, config = load.describe(FOLDERS[name])
  held = tree.flatten(loaded(name, int8=True).params)
  rng, seen = np.random.default_rng(0), 0
  for row in families.of_config(config).tensors(config):
    for leaf in block.leaves(row, np.dtype(np.float32), eight=True):
      ends = [sorted(rng.integers(0, n + 1, 2)) for n in leaf.shape]
      index = tuple(slice(int(a), int(b)) for a, b in ends)
      box, whole = leaf.read(source, index), np.asarray(held[leaf.path])
      np.testing.assert_array_equal(box, whole[index], leaf.path)
      seen += leaf.dtype == np.int8
  assert seen >= 4


def test_a_map_is_read_twice_and_no_more():
  """For its scales, and for its values."""
  source, config = load.describe(FOLDERS['t5_1_1'])
  rows = {row.path: row for row in families.of_config(config).tensors(config)}
  row = rows['encoder/layers/mlp/wo/kernel']
  counted = load_test.Counted(source)
  for leaf in block.leaves(row, np.dtype(np.float32), eight=True):
    leaf.read(counted, tuple(slice(0, size) for size in leaf.shape))
  assert counted.values == 2 * np.prod(row.own_shape())


@pytest.mark.parametrize('patterns', [(), ('model/.*/kernel_scale',)])
def test_what_has_no_gradient_is_not_trained(patterns):
  eight = loaded('t5_1_1', int8=True)
  method = none.Method() if patterns else model_tuning.Method()
  made = base.make(eight.model, method)
  with pytest.raises(UserError, match='kept in eight bits .* weights=dtype'):
    made.init(jax.random.key(0), eight.params, tune=patterns)
