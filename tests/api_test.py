"""Four names from Python, over the same parts as the command line."""

import pytest
import tiny

from ptjax import api, tree
from ptjax import config as config_lib
from ptjax.config import UserError


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  path = tmp_path_factory.mktemp('api')
  tiny.model_folder(path / 'model')
  tiny.data_folder(path / 'data', rows=8)
  return path


@pytest.fixture(scope='module')
def trained(room):
  c = config_lib.default()
  c.model, c.data = str(room / 'model'), str(room / 'data')
  c.task, c.eval.rank, c.eval.untuned = 'cb', False, 0
  c.method.length, c.method.init = 3, 'uniform'
  c.train.steps, c.train.batch_size, c.tensorboard = 2, 4, False
  # A weight of the model beside the prompt: both train and come back.
  tune = ('prompt/.*', 'model/.*/norm/scale')
  out = api.train(c, folder=str(room / 'run'), tune=tune)
  return c, out


def test_train_returns_what_it_leaves(room, trained):
  c, out = trained
  assert out['tasks']['cb']['steps'] in ([1], [2])
  assert out['method']['parameters'] > 3 * 24
  assert c.tune == ()  # the caller's own stays as it was


def test_a_run_is_loaded_with_all_that_trained(room, trained):
  model = api.load(str(room / 'model'), prompt=str(room / 'run'), max_length=3)
  tuned, frozen = model.server.tuned, model.server.frozen
  assert tree.count(tuned) == trained[1]['method']['parameters']
  assert not set(tree.flatten(tuned)) & set(tree.flatten(frozen))
  answers = api.generate(model, ['the cat sat', 'a dog'])
  assert len(answers) == 2 and all(isinstance(a, str) for a in answers)
  nats = api.score(model, ['the cat sat', 'a dog'], ['here', 'there is'])
  assert all(n < 0 for n in nats)
  with pytest.raises(UserError, match='2 inputs and 1 targets'):
    api.score(model, ['a', 'b'], ['c'])
  with pytest.raises(UserError, match="inputs='a dog' must be a list"):
    api.generate(model, 'a dog')


@pytest.mark.parametrize(
  'settings,sentence',
  [
    ({'dtpye': 'bfloat16'}, "no key 'dtpye', did you mean 'dtype'"),
    ({'max_length': 'three'}, "max_length='three' must be of the type"),
    ({'dtype': 'half'}, "dtype='half' is not known"),
    ({'steps': 3}, "no key 'steps', did you mean 'train.steps'"),
    ({'train.steps': 0}, 'train.steps=0 must be at least 1'),
    ({'train': 3}, "no key 'train'"),
  ],
)
def test_a_wrong_setting_is_told(settings, sentence):
  with pytest.raises(UserError, match=sentence):
    api.load('miniature', **settings)
