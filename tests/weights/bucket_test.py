"""A T5X checkpoint in a bucket: TensorStore's client, a small store here."""

import os
from unittest import mock

import fake_store
import jax
import numpy as np
import pytest
from goldens import t5_models

from ptjax.config import UserError
from ptjax.data import tokenizer
from ptjax.weights import load, outline, t5x
from weights import files

ADDRESS = 'gs://models/t5x/own'


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  """A bucket with the recorded T5 1.1, in kernels of several chunks."""
  root = tmp_path_factory.mktemp('store')
  source = t5_models.FOLDER / 't5_1_1' / 'model.safetensors'
  files.write_t5x(root / 'models/t5x/own', files.read_safetensors(source))
  with fake_store.serving(root) as found:
    told = {
      'TENSORSTORE_GCS_HTTP_URL': found.url,
      'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'anybody',
    }
    with mock.patch.dict(os.environ, told):
      yield found


@pytest.fixture(autouse=True)
def at_peace(store):
  store.status = 0
  store.asked.clear()


def test_it_is_the_model_of_the_same_files_here(store):
  found = load.load(ADDRESS)
  here = load.load(str(store.root / 'models/t5x/own'))
  assert found.fingerprint == here.fingerprint
  assert found.config == here.config
  jax.tree.map(np.testing.assert_array_equal, found.params, here.params)
  assert str(found.folder) == found.name == ADDRESS


def test_of_an_array_that_part_is_fetched_that_is_asked_for(store):
  source = t5x.Checkpoint(load.resolve(ADDRESS))

  store.asked.clear()
  source.read('shared.weight', 4, 8)
  assert store.asked == ['models/t5x/own/target.token_embedder.embedding/1.0']


def test_a_plan_asks_for_weights_of_the_vocabulary_alone(store):
  """Which say whether the head is tied."""
  made = outline.outline(ADDRESS)
  assert made.config == load.load(str(store.root / 'models/t5x/own')).config
  whole = ('config.json', 'checkpoint', '.zarray')
  chunks = [name for name in store.asked if not name.endswith(whole)]
  assert {name.split('/')[-2] for name in chunks} == {
    *('target.token_embedder.embedding', 'target.decoder.logits_dense.kernel'),
  }


@pytest.mark.parametrize(
  'address,said',
  [
    (
      'gs://models/none',
      "gs://models/none has no file 'checkpoint', the index",
    ),
    ('gs://models', "gs://models has no file 'checkpoint', the index"),
    ('gs://', 'names no bucket; expected gs://BUCKET/FOLDER'),
  ],
)
def test_what_is_not_there_is_named(address, said):
  with pytest.raises(UserError, match=said):
    load.load(address)


def test_a_store_that_refuses_is_told_with_the_way_in(store):
  store.status = 403
  with pytest.raises(UserError) as error:
    load.load(ADDRESS)
  said = str(error.value)
  assert f'{ADDRESS}/config.json cannot be read (PERMISSION_DENIED' in said
  assert 'GOOGLE_APPLICATION_CREDENTIALS' in said and '\n' not in said


def test_a_lost_array_and_a_lost_chunk_are_named(store):
  own = store.root / 'models/t5x/own'
  chunk = own / 'target.token_embedder.embedding/1.0'
  aside = chunk.rename(own / 'aside')
  with pytest.raises(UserError, match='cannot be read.*fetch the checkpoint'):
    load.load(ADDRESS)
  aside.rename(chunk)
  array = own / 'target.encoder.layers_0.mlp.wo.kernel'
  aside = array.rename(own / 'aside')
  with pytest.raises(UserError, match='layers_0.mlp.wo.kernel, not there'):
    load.load(ADDRESS)
  aside.rename(array)


def test_its_tokenizer_is_somewhere_else():
  with pytest.raises(UserError, match='name a folder or hub name that holds'):
    tokenizer.load(load.resolve(ADDRESS))
