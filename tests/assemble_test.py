"""What a configuration is made into, and what does not belong together."""

import json

import jax
import jax.numpy as jnp
import pytest
import tiny

from ptjax import assemble, mesh
from ptjax import config as config_lib
from ptjax.config import UserError


def config(model, **changes):
  return config_lib.update(
    config_lib.default(), {'model': str(model), **changes}
  )


def test_a_text_ends_with_the_one_of_several_ends_that_its_tokenizer_has(
  tmp_path, capsys
):
  folder = tiny.gpt_folder(tmp_path / 'gpt')
  path = folder / 'config.json'
  said = json.loads(path.read_text())
  path.write_text(json.dumps(said | {'eos_token_id': [7, 5]}))
  made = assemble.parts(config(folder))
  assert made.causal and made.tuned_model.model.config.eos_id == 5
  assert 'no padding token: id 5' in capsys.readouterr().out
  path.write_text(json.dumps(said | {'eos_token_id': 7}))
  with pytest.raises(UserError, match='ends with id 5, but the model with 7'):
    assemble.parts(config(folder))


def test_the_loss_of_whole_texts_is_for_decoder_only_models(tmp_path):
  """Which config.json says: no weights are read, or fetched, for it."""
  folder = tiny.model_folder(tmp_path / 't5')
  (folder / 'model.safetensors').unlink()
  with pytest.raises(UserError, match='train.loss=text is for decoder-only'):
    assemble.parts(config(folder, **{'train.loss': 'text'}))
  with pytest.raises(UserError, match="'texts'.*did you mean 'text'"):
    assemble.parts(config(folder, **{'train.loss': 'texts'}))


def test_on_a_cpu_what_lies_between_two_products_is_wide(tmp_path):
  """There XLA widens it anyhow, whole arrays at a time; weights are narrow."""
  folder = tiny.gpt_folder(tmp_path / 'gpt')
  c = config(folder, dtype='bfloat16')
  made = assemble.parts(c)
  assert made.tuned_model.model.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(made.loaded.params)} == {
    jnp.dtype(jnp.bfloat16)
  }
  far = assemble.outlined(c, mesh.abstract(c, 1, platform='gpu'))
  assert far.tuned_model.model.dtype == jnp.bfloat16


def test_a_templates_words_become_pieces_and_whole_texts_have_none(tmp_path):
  words = {
    'method.init': 'uniform',
    'method.template': '{2} the cat {input} {1}',
  }
  folder = tiny.gpt_folder(tmp_path / 'gpt')
  made = assemble.parts(config(folder, **words))
  ids = [made.tokenizer.encode(f' {word}') for word in ('the', 'cat')]
  assert [len(i) for i in ids] == [1, 1]
  places = made.tuned_model.method.places
  assert places.before == (None, None, ids[0][0], ids[1][0])
  assert made.config.method.template.endswith('{input} {1}')
  with pytest.raises(UserError, match=r'input too, behind which .*\{1\}'):
    assemble.parts(config(folder, **words, **{'train.loss': 'text'}))
  words['method.template'] = '{2} the cat'
  with pytest.raises(UserError, match='has no place for the input'):
    assemble.parts(config('nowhere', **words))
