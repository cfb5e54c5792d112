"""The words after --config=FILE:, and what a wrong one is told."""

import pytest

from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.methods import base


def test_words_take_the_type_of_their_default():
  c = config_lib.apply_words(
    config_lib.default(),
    'task=cb+rte, train.steps=7,optimizer.lr=1e-2,prefix=true,'
    'buckets=(32,64),custom.labels=(no,yes)',
  )
  assert c.task == 'cb+rte' and c.prefix is True
  assert c.train.steps == 7 and c.optimizer.lr == 0.01
  assert c.buckets == (32, 64) and c.custom.labels == ('no', 'yes')


@pytest.mark.parametrize(
  'words,sentence',
  [
    ('taks=cb', "no key 'taks', did you mean 'task'"),
    ('lr=0.1', "did you mean 'optimizer.lr'"),
    ('train.stpes=3', "did you mean 'train.steps'"),
    ('nothing.like.it=3', "no key 'nothing.like.it'"),
    ('train=3', 'train is a group; set one of its keys: train.'),
    ('train.steps=many', "'many' must be of the type of its default, 30000"),
    ('prefix=maybe', "'maybe' must be of the type"),
    ('task', "'task' is not of the form key=value"),
  ],
)
def test_a_wrong_word_is_told_in_one_sentence(words, sentence):
  with pytest.raises(UserError) as error:
    config_lib.apply_words(config_lib.default(), words)
  assert sentence in str(error.value)
  assert '\n' not in str(error.value)


def test_a_misspelled_key_in_a_config_file_raises():
  c = config_lib.default()
  with pytest.raises(AttributeError):
    c.train.stpes = 3


def test_one_of_names_the_nearest():
  with pytest.raises(UserError, match="did you mean 'linear'"):
    config_lib.one_of('schedule', 'lienar', ('constant', 'linear'))


def test_flatten_holds_every_key_once():
  flat = config_lib.flatten(config_lib.default())
  assert flat['train.steps'] == 30_000 and flat['seed'] == 0
  assert 'train' not in flat


@pytest.mark.parametrize(
  'words,expected',
  [
    ('', ('adafactor', 0.3, 1e-5)),
    ('method.name=hard_prompt', ('adafactor', 0.3, 1e-5)),
    ('method.name=lora', ('adamw', 5e-3, 0.0)),
    ('method.name=lora,model=t5', ('adamw', 1e-3, 0.0)),
    ('method.name=ia3,optimizer.lr=0.3', ('adamw', 0.3, 0.0)),
    ('method.name=ia3,optimizer.name=adafactor', ('adafactor', 3e-2, 0.0)),
    ('method.name=lora,optimizer.weight_decay=0.1', ('adamw', 5e-3, 0.1)),
  ],
)
def test_a_method_brings_its_optimizer_but_what_is_set_counts(words, expected):
  c = config_lib.apply_words(config_lib.default(), words)
  found = config_lib.resolved(c).optimizer
  assert (found.name, found.lr, found.weight_decay) == expected
  assert c.optimizer.lr == (0.3 if 'lr=' in words else -1)  # a copy
  assert config_lib.resolved(config_lib.resolved(c)).optimizer == found


def test_every_method_that_trains_has_an_optimizer():
  names = {*base.NAMES} - {'hard_prompt', 'none'}
  assert set(config_lib.OPTIMIZERS) == names
