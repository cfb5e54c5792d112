"""T5X checkpoint folders: one written here, T5X's own, and broken ones."""

import dataclasses
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from goldens import t5_models

from ptjax.config import UserError
from ptjax.weights import load, save, t5x
from weights import files

# What the acceptance checkpoint, of four buckets, was made with.
EIGHT = {'relative_attention_max_distance': 8}


@pytest.fixture
def checkpoint(shared: pathlib.Path) -> pathlib.Path:
  return shared / 'acceptance' / 't5x_tiny' / 'checkpoint_3'


@pytest.fixture
def copy(checkpoint: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
  """One that a test may break."""
  target = tmp_path / 'checkpoint_3'
  shutil.copytree(checkpoint, target, copy_function=shutil.copyfile)
  for path in [target, *target.iterdir()]:
    path.chmod(0o755 if path.is_dir() else 0o644)
  return target


@pytest.fixture
def own(tmp_path: pathlib.Path) -> pathlib.Path:
  """The recorded T5 1.1, in kernels of several chunks."""
  source = t5_models.FOLDER / 't5_1_1'
  folder = tmp_path / 'own'
  files.write_t5x(folder, files.read_safetensors(source / 'model.safetensors'))
  return folder


def test_it_is_the_model_of_the_hugging_face_files(own):
  expected = load.load(str(t5_models.FOLDER / 't5_1_1'))
  found = load.load(str(own))
  assert found.fingerprint == expected.fingerprint
  assert found.config == expected.config


@pytest.mark.parametrize(
  'array',
  ('token_embedder.embedding', 'encoder.layers_0.attention.query.kernel'),
)
def test_a_lost_chunk_is_no_zeros(own, array):
  folder = own / f'target.{array}'
  assert sorted(p.name for p in folder.iterdir())[2:], 'one chunk only'
  (folder / '1.0').unlink()
  with pytest.raises(UserError, match=f'chunk.*{array}.*fetch the check'):
    load.load(str(own))


def test_an_array_with_a_name_like_a_known_one_is_superfluous(own):
  content = files.read_t5x_index(own)
  attention = content['encoder']['layers_0']['attention']
  attention['quux'] = {'kernel': np.full((10, 9), 7, np.float32)}
  files.write_t5x_index(own, content)
  with pytest.raises(UserError, match=r'\+ encoder/layers_0/attention/quux'):
    load.load(str(own))


@pytest.mark.parametrize(
  'other', ('encoder.final_layer_norm.weight', 'encoder/encoder_norm/scale')
)
def test_two_arrays_of_one_tensor_are_refused(own, other):
  content = files.read_t5x_index(own)
  content[other] = np.full(10, 7, np.float32)
  files.write_t5x_index(own, content)
  with pytest.raises(UserError, match=f'encoder_norm/scale and {other} are bo'):
    load.load(str(own))


@pytest.mark.parametrize(
  'value, words',
  [
    (np.arange(10), 'is of type int64; weights of type F64'),
    (np.ones(10, bool), 'is of type bool; weights'),
    (5, 'the checkpoint names target.encoder.encoder_norm.scale, not there'),
  ],
)
def test_what_is_no_array_of_weights_is_refused(own, value, words):
  content = files.read_t5x_index(own)
  content['encoder']['encoder_norm']['scale'] = value
  files.write_t5x_index(own, content)
  with pytest.raises(UserError, match=words):
    load.load(str(own))


@pytest.mark.parametrize(
  'shape, words',
  [
    ((32,), r'relative_attention_bias.weight is \[32\], expected .*heads'),
    ((0, 32), r'relative_attention_bias.weight is \[32, 0\], expected'),
    ((4, 3, 32), r'relative_attention_bias.weight is \[4, 3, 32\], expected'),
  ],
)
def test_a_relative_bias_that_tells_no_heads_is_refused(own, shape, words):
  content = files.read_t5x_index(own)
  bias = np.zeros(shape, np.float32)
  content['encoder']['relpos_bias']['rel_embedding'] = bias
  files.write_t5x_index(own, content)
  with pytest.raises(UserError, match=words):
    load.load(str(own))


def test_an_embedding_of_one_axis_is_refused(own):
  content = files.read_t5x_index(own)
  content['token_embedder']['embedding'] = np.zeros(61, np.float32)
  files.write_t5x_index(own, content)
  with pytest.raises(UserError, match=r'shared.weight is \[61\], expected'):
    load.load(str(own))


def test_a_damaged_chunk_is_refused(own):
  array = 'encoder.layers_0.mlp.wi_0.kernel'
  chunk = own / f'target.{array}' / '1.0'
  chunk.write_bytes(chunk.read_bytes()[:9])
  with pytest.raises(UserError, match=f'cannot be read.*{array}.*fetch the ch'):
    load.load(str(own))


def test_other_buckets_need_their_distance_said(tmp_path):
  """128 is what goes with 32 buckets; a guess would be another network."""
  source = t5_models.FOLDER / 't5_1_1' / 'model.safetensors'
  tensors = {
    name: tensor[:8] if 'relative_attention_bias' in name else tensor
    for name, tensor in files.read_safetensors(source).items()
  }
  files.write_t5x(tmp_path, tensors)
  with pytest.raises(UserError, match='with 8 buckets.*config.json'):
    load.load(str(tmp_path))
  assert load.load(str(tmp_path), **EIGHT).config == dataclasses.replace(
    load.load(str(source.parent)).config,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=8,
  )


def test_every_parameter_is_there(checkpoint, shared):
  source = t5x.Checkpoint(checkpoint)
  assert len(source.shapes) == 52
  assert sum(np.prod(s) for s in source.shapes.values()) == 257_856
  folder = shared / 'acceptance' / 't5x_tiny'
  expected = np.load(folder / 'tiny_embeddings_32128x4.npy')
  held = load.load(str(checkpoint), **EIGHT)
  found = np.asarray(held.params['token_embedder']['embedding'])
  assert found.tobytes() == expected.tobytes()


def test_sizes_are_read_from_shapes(checkpoint):
  config = load.load(str(checkpoint), **EIGHT).config
  assert (config.d_model, config.num_heads, config.d_kv) == (4, 2, 2)
  assert (config.d_ff, config.vocab_size) == (8, 32128)
  assert (config.num_layers, config.num_decoder_layers) == (2, 2)
  assert config.relative_attention_num_buckets == 4
  assert config.gated and not config.tied and not config.scale_logits


def test_config_json_beside_it_says_what_shapes_do_not(copy):
  path = copy / 'config.json'
  path.write_text(json.dumps(EIGHT))
  assert load.load(str(copy)).config.relative_attention_max_distance == 8
  path.write_text(json.dumps(EIGHT | {'num_layers': 3}))
  with pytest.raises(UserError, match='missing'):
    load.load(str(copy))


def test_the_same_model_as_hugging_face_files(checkpoint, tmp_path):
  held = load.load(str(checkpoint), **EIGHT)
  save.save(tmp_path, held.params, held.config)
  again = load.load(str(tmp_path))
  assert again.fingerprint == held.fingerprint
  assert again.config == held.config
  for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(held.params)):
    np.testing.assert_array_equal(a, b)


def test_a_lost_array_is_named(copy):
  shutil.rmtree(copy / 'target.encoder.layers_1.mlp.wi_0.kernel')
  with pytest.raises(UserError, match='wi_0.kernel, not there'):
    load.load(str(copy))


def test_a_damaged_array_and_index_are_named(copy):
  array = copy / 'target.encoder.layers_1.mlp.wi_0.kernel'
  (array / '.zarray').write_text('{}')
  with pytest.raises(UserError, match='wi_0.kernel: not a zarr array'):
    load.load(str(copy))
  (copy / 'checkpoint').write_bytes(b'\x93\x01\x02')
  with pytest.raises(UserError, match='not the index of a T5X checkpoint'):
    load.load(str(copy))
