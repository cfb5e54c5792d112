"""What a prompt's file asks of a model, and gives it."""

import jax
import numpy as np
import pytest
import tiny

from ptjax import assemble, prompted, tree
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.export import names, prompt
from ptjax.export.prompt import Prompt


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """The parts of a tiny T5."""
  c = config_lib.default()
  c.model = str(tiny.model_folder(tmp_path_factory.mktemp('prompted') / 'm'))
  c.method.name = 'none'
  return assemble.parts(c)


def test_weights_tuned_beside_a_prompt_come_back_with_it(built, tmp_path):
  """`tune` may take both, or leave the prompt as it started."""
  every = tree.flatten({'model': built.loaded.params})
  name = next(n for n in every if 'norm' in n)
  weights = tree.flatten({'model': built.loaded.params})[name]
  own = {'prompt/encoder': np.ones((3, 24), np.float32), name: weights + 1}
  record = {
    'model': {'name': 'm', 'fingerprint': built.loaded.fingerprint},
    'method': {'name': 'soft_prompt'},
  }
  path = tmp_path / 'both.safetensors'
  prompt.write(path, tree.unflatten(own), record)
  again, tuned, frozen = prompted.with_prompts(
    built.config, names.find(str(path)), made=built
  )
  assert set(tree.flatten(tuned)) == set(own)
  assert name not in tree.flatten(frozen)
  np.testing.assert_array_equal(tree.flatten(tuned)[name][0], weights + 1)
  assert again.tuned_model.method.length == 3
  record['model']['fingerprint'] = 'another'
  prompt.write(path, tree.unflatten(own), record)
  with pytest.raises(UserError, match='was trained on m'):
    prompted.with_prompts(built.config, names.find(str(path)), made=built)


def test_a_tuned_model_is_named_as_a_prompt(built, tmp_path):
  bigger = jax.tree.map(lambda x: x + 1, built.loaded.params)
  path = tmp_path / 'all.safetensors'
  prompt.write(path, {'model': bigger}, {'method': {'name': 'model_tuning'}})
  again, tuned, frozen = prompted.with_prompts(
    built.config, names.find(str(path)), made=built
  )
  assert not jax.tree.leaves(frozen) and again.tuned_model.method.front == 0
  alone = jax.tree.map(lambda x: x[0], tuned)
  assert tree.checksum(alone) == tree.checksum({'model': bigger})


@pytest.mark.parametrize(
  'method', ['lora', {'name': 7}, {'name': 'lora', 'rank': 'two'}, {'rank': []}]
)
def test_a_record_that_no_run_writes_is_told(built, method):
  found = Prompt('p', {'lora': {}}, {'method': method}, 'p.safetensors')
  with pytest.raises(UserError, match="^p.safetensors: its record's method is"):
    prompted.with_prompts(built.config, [found], made=built)
