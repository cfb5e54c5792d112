"""Models in a bucket: TensorStore's client, a small store here."""

import pathlib
import shutil

import fake_store
import jax
import numpy as np
import pytest
from goldens import t5_models

import ptjax
from ptjax import bucket
from ptjax.config import UserError
from ptjax.data import tokenizer
from ptjax.weights import block, hf, load, outline, t5x
from ptjax.weights import t5 as t5_table
from weights import files

ADDRESS = 'gs://models/t5x/own'
FOLDER = 'gs://models/hf/own'
HEADER = b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
MINIATURE = pathlib.Path(ptjax.__file__).parent / 'miniature/t5'


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  """A bucket with the recorded T5 1.1: T5X's, several chunks a kernel; HF's."""
  root = tmp_path_factory.mktemp('store')
  source = t5_models.FOLDER / 't5_1_1' / 'model.safetensors'
  tensors = files.read_safetensors(source)
  files.write_t5x(root / 'models/t5x/own', tensors)
  own = root / 'models/hf/own'
  own.mkdir(parents=True)
  shutil.copy(source.with_name('config.json'), own)
  files.write_sharded(own, tensors, kind='safetensors', shards=3)
  shutil.copytree(MINIATURE, root / 'models/hf/miniature')
  with fake_store.serving(root) as found:
    yield found


@pytest.fixture(autouse=True)
def at_peace(store):
  store.status = store.sent = 0
  store.asked.clear()


@pytest.mark.parametrize('address', (ADDRESS, FOLDER))
def test_it_is_the_model_of_the_same_files_here(store, address):
  found = load.load(address)
  here = load.load(here_is(store, address))
  assert found.fingerprint == here.fingerprint
  assert found.config == here.config
  jax.tree.map(np.testing.assert_array_equal, found.params, here.params)
  assert str(found.folder) == found.name == address


def here_is(store: fake_store.Store, address: str) -> str:
  return str(store.root / address.removeprefix('gs://'))


def test_of_an_array_that_part_is_fetched_that_is_asked_for(store):
  source = t5x.Checkpoint(load.resolve(ADDRESS))

  store.asked.clear()
  source.read('shared.weight', 4, 8)
  assert store.asked == ['models/t5x/own/target.token_embedder.embedding/1.0']


def test_of_a_tensor_those_rows_are_fetched_that_are_asked_for(store):
  source = hf.open_folder(load.resolve(FOLDER))
  store.asked.clear()
  store.sent = 0
  rows = source.read('shared.weight', 4, 7)
  assert rows.shape[0] == 3 and rows.flags.aligned
  assert store.sent == rows.nbytes and len(store.asked) == 1


def test_a_process_fetches_its_share_of_a_sharded_parameter(store):
  """Two devices of which this process would have the first."""
  source, config = load.describe(load.resolve(FOLDER))
  [row] = [
    row
    for row in t5_table.tensors(config)
    if row.path == 'token_embedder/embedding'
  ]
  [leaf] = block.leaves(row, np.dtype(np.float32), eight=False)
  store.sent = 0
  half = slice(0, leaf.shape[0] // 2), slice(0, leaf.shape[1])
  assert leaf.read(source, half).nbytes == store.sent


def test_its_tokenizer_is_beside_it(store):
  found = tokenizer.load('gs://models/hf/miniature')
  here = tokenizer.load(MINIATURE)
  text = 'Paris is in France.'
  assert found.encode(text) == here.encode(text) and found.begin == here.begin
  assert (found.eos_id, found.pad_id) == (here.eos_id, here.pad_id)


def test_a_folder_without_weights_is_outlined_by_its_config(store):
  own = store.root / 'models/hf/bare'
  own.mkdir()
  shutil.copy(store.root / 'models/hf/own/config.json', own)
  made = outline.outline('gs://models/hf/bare')
  assert made.config == load.load(FOLDER).config


def test_torch_files_are_refused_with_the_way_out(store):
  own = store.root / 'models/hf/bin'
  own.mkdir()
  shutil.copy(store.root / 'models/hf/own/config.json', own)
  (own / 'pytorch_model.bin').write_bytes(b'PK')
  with pytest.raises(UserError, match='torch files none is read.*storage cp'):
    load.load('gs://models/hf/bin')


@pytest.mark.parametrize(
  'content,said',
  [
    (b'', 'not a whole safetensors file'),
    (b'\x10' + bytes(7), 'not a whole safetensors file'),
    (bytes(7) + b'\x10', 'not a whole safetensors file'),
    (b'\x02' + bytes(7) + b'[]', 'not that of a safetensors file'),
    (
      len(HEADER).to_bytes(8, 'little') + HEADER + bytes(7),
      f'ends before its last tensor does, at byte {16 + len(HEADER)}',
    ),
  ],
)
def test_what_is_no_whole_file_is_told(store, content, said):
  file = store.root / 'models/hf/own/broken.safetensors'
  file.write_bytes(content)
  for path in (file, bucket.path(FOLDER) / file.name):
    with pytest.raises(UserError, match=said):
      hf.Safetensors(path)
  assert store.sent < 100


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
    ('gs://models/none', 'gs://models/none: no config.json and no T5X'),
    ('gs://models', 'gs://models: no config.json and no T5X checkpoint'),
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
  assert f'{ADDRESS}/checkpoint cannot be read (PERMISSION_DENIED' in said
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
  with pytest.raises(
    UserError, match='own holds no tokenizer.*hub name that does'
  ):
    tokenizer.load(load.resolve(ADDRESS))
