"""Shapes without weights are those that the weights have."""

import json
import shutil

import jax
import jax.numpy as jnp
import pytest
import tiny
from goldens import causal_models

from ptjax import tree
from ptjax.config import UserError
from ptjax.weights import load, outline, published


def outlined(name):
  return outline.outline(str(name), dtype='bfloat16')


@pytest.mark.parametrize('whole', [True, False])
@pytest.mark.parametrize('family', ['t5', 'pythia', 'gpt2'])
def test_they_are_those_of_the_loaded_model(family, whole, tmp_path):
  """From a folder with its files, or with config.json alone."""
  folder = causal_models.FOLDER / family
  if family == 't5':
    folder = tiny.model_folder(tmp_path / 'whole')
  loaded = load.load(str(folder), dtype='bfloat16')
  if not whole:
    (tmp_path / 'config').mkdir()
    shutil.copy(folder / 'config.json', tmp_path / 'config')
    folder = tmp_path / 'config'
  found = outlined(folder)
  assert found.config == loaded.config
  want = {
    name: (leaf.shape, leaf.dtype)
    for name, leaf in tree.flatten(loaded.params).items()
  }
  assert want == {
    name: (leaf.shape, leaf.dtype)
    for name, leaf in tree.flatten(found.params).items()
  }
  assert all(
    isinstance(leaf, jax.ShapeDtypeStruct)
    for leaf in jax.tree.leaves(found.params)
  )


@pytest.mark.parametrize(
  'family,said,tied',
  [
    ('gpt2', {'tie_word_embeddings': None}, True),
    ('pythia', {'tie_word_embeddings': None}, False),
    ('t5', {'tie_word_embeddings': True}, False),
    ('t5', {'tie_word_embeddings': True, 'feed_forward_proj': 'relu'}, True),
  ],
)
def test_without_tensors_the_settings_say_if_the_head_is_tied(
  family, said, tied, tmp_path
):
  """transformers 5 writes true for T5 1.1, whose head never was."""
  folder = causal_models.FOLDER / family
  if family == 't5':
    folder = tiny.model_folder(tmp_path / 'whole')
  values = json.loads((folder / 'config.json').read_text()) | said
  values = {key: value for key, value in values.items() if value is not None}
  (tmp_path / 'config.json').write_text(json.dumps(values))
  assert outlined(tmp_path).config.tied == tied


def test_a_published_model_needs_no_hub():
  """T5 1.1 XXL and its adaptations have 11.135 billion parameters."""
  found = outlined('google/t5-xxl-lm-adapt')
  assert tree.count(found.params) == 11_135_332_352
  assert found.model.dtype == jnp.bfloat16
  for name in ('google/t5-v1_1-xxl', 'google/flan-t5-xxl'):
    assert published.sizes(name) == found.config
  assert published.sizes('google/t5-huge-lm-adapt') is None
  assert published.sizes('google/t5-xxl') is None


def test_another_model_is_asked_for_and_told():
  with pytest.raises(UserError, match='HF_HUB_OFFLINE'):
    outlined('google/t5-huge-lm-adapt')
