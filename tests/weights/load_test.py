"""Strict loading: what fits, what does not, and the words for it."""

import dataclasses
import functools
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tracemalloc

import jax
import ml_dtypes
import numpy as np
import pytest
from goldens import t5_models

from ptjax.config import UserError
from ptjax.models import t5
from ptjax.weights import block, load, save
from ptjax.weights import t5 as t5_table
from weights import files

UNUSED = (
  'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight'
)
QUERY = 'encoder.block.0.layer.0.SelfAttention.q.weight'


@functools.cache
def case(name: str) -> load.Loaded:
  return load.load(str(t5_models.FOLDER / name))


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
  """A copy of the recorded 1.1 that a test may break."""
  return shutil.copytree(t5_models.FOLDER / 't5_1_1', tmp_path / 'model')


def tensors(folder: pathlib.Path) -> dict[str, np.ndarray]:
  return files.read_safetensors(folder / 'model.safetensors')


def rewrite(folder: pathlib.Path, changed: dict[str, np.ndarray]) -> None:
  files.write_safetensors(folder / 'model.safetensors', changed)


def configure(folder: pathlib.Path, **changes) -> None:
  path = folder / 'config.json'
  values = json.loads(path.read_text()) | changes
  kept = {key: value for key, value in values.items() if value != 'gone'}
  path.write_text(json.dumps(kept))


def same(one: load.Loaded, other: load.Loaded) -> bool:
  leaves = jax.tree.leaves(one.params), jax.tree.leaves(other.params)
  assert len(leaves[0]) == len(leaves[1])
  return all(np.array_equal(a, b) for a, b in zip(*leaves))


def test_fingerprint_is_of_the_values_not_of_the_container(folder):
  expected, stored = case('t5_1_1').fingerprint, tensors(folder)
  bfloat16 = load.load(str(folder), dtype='bfloat16')
  assert bfloat16.fingerprint == expected

  shutil.rmtree(folder)
  save.save(folder, case('t5_1_1').params, case('t5_1_1').config)
  assert load.load(str(folder)).fingerprint == expected

  (folder / 'model.safetensors').unlink()
  files.write_sharded(folder, stored, kind='safetensors', shards=3)
  sharded = load.load(str(folder))
  assert sharded.fingerprint == expected and same(sharded, case('t5_1_1'))

  for path in folder.glob('model*'):
    path.unlink()
  files.write_sharded(folder, stored, kind='bin', shards=2)
  sharded = load.load(str(folder))
  assert sharded.fingerprint == expected and same(sharded, case('t5_1_1'))

  for path in folder.glob('pytorch*'):
    path.unlink()
  files.write_bin(folder / 'pytorch_model.bin', stored)
  assert load.load(str(folder)).fingerprint == expected


def test_fingerprint_sees_one_bit(folder):
  changed = tensors(folder)
  changed[QUERY].view(np.uint32)[0, 0] ^= 1
  rewrite(folder, changed)
  assert load.load(str(folder)).fingerprint != case('t5_1_1').fingerprint


def test_bfloat16_files_and_bfloat16_parameters(folder):
  rounded = {
    n: t.astype(ml_dtypes.bfloat16) for n, t in tensors(folder).items()
  }
  rewrite(folder, rounded)
  kept, widened = (
    load.load(str(folder), dtype='bfloat16'),
    load.load(str(folder)),
  )
  assert kept.fingerprint == widened.fingerprint
  assert kept.fingerprint != case('t5_1_1').fingerprint
  for a, b in zip(
    jax.tree.leaves(kept.params), jax.tree.leaves(widened.params)
  ):
    assert a.dtype == ml_dtypes.bfloat16 and b.dtype == np.float32
    np.testing.assert_array_equal(a.astype(np.float32), b)
  assert kept.model.dtype == ml_dtypes.bfloat16


def test_host_arrays_where_asked():
  held = load.load(str(t5_models.FOLDER / 'mt5'), device_put=False)
  assert all(type(x) is np.ndarray for x in jax.tree.leaves(held.params))
  assert same(held, case('mt5'))


def test_missing_superfluous_and_misshapen_are_listed(folder):
  changed = tensors(folder)
  del changed[QUERY]
  changed['decoder.extra.weight'] = np.zeros((2, 3), np.float32)
  name = 'encoder.final_layer_norm.weight'
  changed[name] = np.zeros(11, np.float32)
  rewrite(folder, changed)
  with pytest.raises(UserError) as caught:
    load.load(str(folder))
  message = str(caught.value)
  assert f'\n  - {QUERY} [9, 10]' in message
  assert '\n  + decoder.extra.weight [2, 3]' in message
  assert f'\n  ± {name} is [11], expected [10]' in message
  assert message.count('\n') == 3


@pytest.mark.parametrize('depth', (2, 4))
def test_a_config_of_another_depth_is_refused(folder, depth):
  configure(folder, num_decoder_layers=depth)
  with pytest.raises(UserError, match='missing|superfluous'):
    load.load(str(folder))


def test_what_real_files_carry_and_nobody_needs(folder):
  changed = tensors(folder)
  changed[UNUSED] = np.ones((32, 3), np.float32)
  changed['encoder.embed_tokens.weight'] = changed['shared.weight']
  changed['decoder.embed_tokens.weight'] = changed['shared.weight']
  rewrite(folder, changed)
  assert same(load.load(str(folder)), case('t5_1_1'))
  del changed['shared.weight']
  rewrite(folder, changed)
  alone = load.load(str(folder))
  assert same(alone, case('t5_1_1'))
  assert alone.fingerprint == case('t5_1_1').fingerprint


def test_a_copy_of_the_embedding_that_is_none_is_refused(folder):
  changed = tensors(folder)
  changed['decoder.embed_tokens.weight'] = changed['shared.weight'] * 2
  rewrite(folder, changed)
  with pytest.raises(UserError, match='decoder.embed_tokens.weight differs'):
    load.load(str(folder))


def test_a_tensor_without_axes_is_misshapen(folder):
  changed = tensors(folder)
  for name in ('shared.weight', 'lm_head.weight'):
    changed[name] = np.float32(1).reshape(())
  rewrite(folder, changed)
  with pytest.raises(UserError, match=r'± shared.weight is \[\], expected'):
    load.load(str(folder))


@pytest.mark.parametrize('flag', (True, False))
def test_a_head_is_tied_if_the_tensors_say_so(folder, flag):
  configure(folder, tie_word_embeddings=flag)
  assert not load.load(str(folder)).config.tied
  changed = tensors(folder)
  changed['lm_head.weight'] = changed['shared.weight']
  rewrite(folder, changed)
  equal = load.load(str(folder))
  assert equal.config.tied and 'head' not in equal.params
  del changed['lm_head.weight']
  rewrite(folder, changed)
  absent = load.load(str(folder))
  assert absent.config == equal.config
  assert absent.fingerprint == equal.fingerprint


@pytest.mark.parametrize(
  'scale,flag,tied,expected',
  [
    ('gone', 'gone', True, True),  # T5 1.0 as published
    ('gone', False, False, False),  # T5 1.1 as published
    ('gone', True, False, False),  # saved by an early transformers 5
    (False, True, True, False),
    (True, True, False, True),
    ('gone', False, True, False),
  ],
)
def test_when_logits_are_scaled(folder, scale, flag, tied, expected):
  if tied:
    rest = tensors(folder)
    del rest['lm_head.weight']
    rewrite(folder, rest)
  configure(folder, scale_decoder_outputs=scale, tie_word_embeddings=flag)
  assert load.load(str(folder)).config.scale_logits is expected


def test_attributes_that_say_nothing_of_the_network_are_ignored(folder):
  configure(
    folder,
    n_positions=512,
    output_past=True,
    task_specific_params={'summarization': {'prefix': 'summarize: '}},
    gradient_checkpointing=False,
    use_cache=False,
    _name_or_path='google/t5-v1_1-base',
    transformers_version='4.1',
    torch_dtype='bfloat16',
    architectures=['T5Model'],
    tokenizer_class='T5Tokenizer',
  )
  assert load.load(str(folder)).config == case('t5_1_1').config


@pytest.mark.parametrize(
  'changes,words',
  [
    (dict(is_decoder=True), 'is_decoder=True'),
    (dict(new_kind_of_norm=1), 'new_kind_of_norm=1'),
    (dict(chunk_size_feed_forward=4), 'chunk_size_feed_forward=4'),
    (dict(quantization_config={'bits': 8}), 'quantization_config'),
    (dict(model_type='umt5'), "model_type is 'umt5'.*t5, mt5"),
    (dict(model_type='gone'), 'model_type is None'),
    (dict(d_model='gone'), 'no whole number for d_model'),
    (dict(d_kv=True), 'no whole number for d_kv'),
    (dict(feed_forward_proj='gated-gelo'), "'gated-gelo'; known are relu"),
    (dict(dense_act_fn='relu'), "dense_act_fn.*'relu' instead of 'gelu_new'"),
    (dict(eos_token_id=[1, 2]), r'eos_token_id is \[1, 2\], expected an id'),
    (dict(eos_token_id=True), 'eos_token_id is True, expected an id'),
    (dict(eos_token_id=-3), 'eos_token_id is -3, expected an id from 0 to 60'),
    (dict(pad_token_id=61), 'pad_token_id is 61, expected an id from 0 to 60'),
    (dict(num_decoder_layers='2'), "num_decoder_layers is '2', .* from 1"),
    (dict(num_decoder_layers=3.0), 'num_decoder_layers is 3.0, .* from 1'),
    (dict(num_decoder_layers=0), 'num_decoder_layers is 0, .* from 1'),
    (
      dict(relative_attention_num_buckets='32'),
      "relative_attention_num_buckets is '32', .* from 4",
    ),
    (dict(relative_attention_num_buckets=2), 'num_buckets is 2, .* from 4'),
    (
      dict(relative_attention_max_distance=0),
      'relative_attention_max_distance is 0, .* from 17',
    ),
    (dict(relative_attention_max_distance=16), 'distance is 16, .* from 17'),
    (dict(relative_attention_max_distance='99'), "distance is '99', .* from 1"),
    (dict(layer_norm_epsilon=None), 'layer_norm_epsilon is None, .* number'),
    (dict(layer_norm_epsilon='x'), "layer_norm_epsilon is 'x', .* number"),
    (dict(layer_norm_epsilon=-1), 'layer_norm_epsilon is -1, .* from 0'),
    (dict(layer_norm_epsilon=math.nan), 'layer_norm_epsilon is nan'),
    (dict(dropout_rate=1), 'dropout_rate is 1, .* below 1'),
    (dict(dropout_rate='0.1'), "dropout_rate is '0.1', .* number"),
    (dict(tie_word_embeddings='false'), "tie_word_embeddings is 'false', expe"),
    (dict(scale_decoder_outputs=1), 'scale_decoder_outputs is 1, expected tr'),
    (dict(feed_forward_proj=['relu']), r"proj is \['relu'\]; known are"),
    (dict(is_gated_act=['x']), r"is_gated_act says \['x'\] instead of True"),
  ],
)
def test_a_config_that_means_another_network_is_refused(folder, changes, words):
  configure(folder, **changes)
  with pytest.raises(UserError, match=words):
    load.load(str(folder))


def test_a_config_may_begin_with_a_byte_order_mark(folder):
  path = folder / 'config.json'
  path.write_text(path.read_text(), encoding='utf-8-sig')
  assert load.load(str(folder)).config == case('t5_1_1').config


def test_nulls_mean_what_is_usual(folder):
  """As transformers writes what nobody set."""
  usual = case('t5_1_1').config
  configure(folder, num_decoder_layers=None, eos_token_id=None)
  with pytest.raises(UserError, match='superfluous'):  # as many as encode
    load.load(str(folder))
  configure(folder, num_decoder_layers=usual.num_decoder_layers)
  assert load.load(str(folder)).config == usual


def test_overrides_win_over_the_file(folder):
  overridden = load.load(str(folder), relative_attention_max_distance=64)
  assert overridden.config.relative_attention_max_distance == 64
  with pytest.raises(UserError, match='relative_max=8'):
    load.load(str(folder), relative_max=8)


def test_what_a_name_may_be(tmp_path, folder, monkeypatch):
  assert load.resolve(str(folder)) == folder
  assert load.resolve('miniature').parts[-2:] == ('miniature', 't5')
  assert load.resolve('miniature/t5') == load.resolve('miniature')
  assert load.resolve('miniature/gpt').parts[-2:] == ('miniature', 'gpt')
  with pytest.raises(UserError, match="no model 'minature'.*'miniature'"):
    load.resolve('minature')
  with pytest.raises(UserError, match="'miniature/gtp'.*'miniature/gpt'"):
    load.resolve('miniature/gtp')
  with pytest.raises(UserError, match="no folder .*, did you mean '.*/model'"):
    load.resolve(str(tmp_path / 'modle'))
  with pytest.raises(UserError, match='is a file'):
    load.resolve(str(folder / 'config.json'))
  with pytest.raises(UserError, match='not a model folder'):
    load.load(str(tmp_path))
  (folder / 'model.safetensors').unlink()
  with pytest.raises(UserError, match='no weights there'):
    load.load(str(folder))
  with pytest.raises(UserError, match="'float16'.*float32, bfloat16"):
    load.load(str(folder), dtype='float16')
  for broken in (b'{', b'[' * 100_000, b'{"a": "\xff"}'):
    (folder / 'config.json').write_bytes(broken)
    with pytest.raises(UserError, match='not readable as JSON'):
      load.load(str(folder))


PLACED = """
import sys
import jax
import numpy as np
from ptjax import mesh as mesh_lib
from ptjax.weights import load

mesh = jax.make_mesh((2,), ('model',))
halved = []

def sharding(path, shape):
  axes = [None] * len(shape)
  even = [i for i, n in enumerate(shape) if n % 2 == 0]
  for i in even[-1:]:
    axes[i] = 'model'
    halved.append(path)
  spec = jax.sharding.PartitionSpec(*axes)
  return jax.sharding.NamedSharding(mesh, spec)

def placement(model):
  named = mesh_lib.logical_axes(model)
  return {path: sharding(path, shape) for path, (_, shape) in named.items()}

whole = load.load(sys.argv[1], device_put=False).params
placed = load.load(sys.argv[1], placement=placement).params
count = 0
for own, expected in zip(jax.tree.leaves(placed), jax.tree.leaves(whole)):
  np.testing.assert_array_equal(own, expected)
  shards = own.addressable_shards
  assert {shard.device for shard in shards} == set(jax.devices())
  for shard in shards:
    np.testing.assert_array_equal(shard.data, expected[shard.index])
    count += shard.data.size < expected.size
assert count == 2 * len(halved) > 20
print(len(jax.devices()), 'devices')
"""


def test_two_devices_hold_their_halves():
  done = subprocess.run(
    [sys.executable, '-c', PLACED, str(t5_models.FOLDER / 't5_1_1')],
    env={**os.environ, 'XLA_FLAGS': '--xla_force_host_platform_device_count=2'},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.stdout == '2 devices\n', done.stderr[-2000:]


def test_devices_read_their_own_part():
  """Every box of every parameter is cut from the file as from the whole."""
  source, config = load.describe(t5_models.FOLDER / 't5_1_1')
  rng = np.random.default_rng(0)
  for row in t5_table.tensors(config):
    whole = case('t5_1_1').params
    for key in row.path.split('/'):
      whole = whole[key]
    ends = [sorted(rng.integers(0, n + 1, 2)) for n in whole.shape]
    index = tuple(slice(int(a), int(b)) for a, b in ends)
    (leaf,) = block.leaves(row, np.dtype(np.float32), eight=False)
    box = leaf.read(source, index)
    np.testing.assert_array_equal(box, np.asarray(whole)[index], row.path)


def test_a_part_is_read_by_its_rows_alone():
  """Rows of the file: of a kernel the outputs, as tensor parallelism cuts."""
  source, config = load.describe(t5_models.FOLDER / 't5_1_1')
  counted = Counted(source)
  path = 'encoder/layers/attention/query/kernel'
  (row,) = (r for r in t5_table.tensors(config) if r.path == path)
  layers, inputs, outputs = row.own_shape()
  for start, stop in ((0, 3), (3, outputs)):
    counted.values = 0
    index = slice(0, layers), slice(0, inputs), slice(start, stop)
    (leaf,) = block.leaves(row, np.dtype(np.float32), eight=False)
    leaf.read(counted, index)
    assert counted.values == layers * inputs * (stop - start)


class Counted:
  """A source that counts what is read of it."""

  def __init__(self, source):
    self.source, self.shapes, self.values = source, source.shapes, 0
    self.far = source.far

  def read(self, name, start, stop):
    rows = self.source.read(name, start, stop)
    self.values += rows.size
    return rows


def test_memory_stays_near_what_is_resident(tmp_path, monkeypatch):
  """Traced allocations; `python -m ptjax.bench load` shows it at size."""
  config = dataclasses.replace(
    case('t5_1_1').config, d_model=64, d_ff=512, num_layers=6, vocab_size=500
  )
  shapes = {r.path: r.own_shape() for r in t5_table.tensors(config)}
  params: dict = {}
  for path, shape in shapes.items():
    *scopes, leaf = path.split('/')
    scope = params
    for key in scopes:
      scope = scope.setdefault(key, {})
    scope[leaf] = np.zeros(shape, np.float32)
  save.save(tmp_path, params, config)
  monkeypatch.setattr(block, '_CHUNK', 1 << 10)
  load.load(str(tmp_path))  # imports and caches are not counted below
  tracemalloc.start()
  leaves = jax.tree.leaves(load.load(str(tmp_path)).params)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  resident, largest = (
    sum(x.nbytes for x in leaves),
    max(x.nbytes for x in leaves),
  )
  assert resident < peak < resident + 1.3 * largest


@pytest.mark.parametrize('dtype', ('float32', 'bfloat16'))
@pytest.mark.parametrize('name', sorted(t5_models.CASES))
def test_what_is_saved_is_what_was_loaded(name, dtype, tmp_path):
  held = load.load(str(t5_models.FOLDER / name), dtype=dtype)
  save.save(tmp_path, held.params, held.config, dtype=dtype)
  again = load.load(str(tmp_path), dtype=dtype)
  assert again.config == held.config and same(again, held)
  if dtype == 'float32':
    assert again.fingerprint == held.fingerprint
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'config.json',
    'model.safetensors',
  ]


def test_save_refuses_parameters_of_another_config(tmp_path):
  config = dataclasses.replace(case('t5_1_1').config, d_ff=18)
  with pytest.raises(ValueError, match='wi_0'):
    save.save(tmp_path, case('t5_1_1').params, config)


@pytest.mark.parametrize('name', ('t5_1_0', 't5_1_1', 'flan_tied_unscaled'))
def test_transformers_loads_what_is_saved(name, tmp_path):
  torch = pytest.importorskip('torch', reason='torch is not installed')
  transformers = pytest.importorskip('transformers')
  save.save(tmp_path, case(name).params, case(name).config)
  network = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path)
  given = t5_models.inputs(network.config.vocab_size)
  expected = np.load(t5_models.FOLDER / name / 'golden.npz')['logits']
  with torch.no_grad():
    found = network.eval()(
      input_ids=torch.tensor(given['ids']).long(),
      attention_mask=torch.tensor(given['mask']).long(),
      decoder_input_ids=torch.tensor(given['decoder_ids']).long(),
    ).logits.numpy()
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_t5_config_is_hashable_and_frozen():
  """It is a field of the module, and jit's key."""
  assert hash(case('t5_1_1').config) == hash(
    dataclasses.replace(case('t5_1_1').config)
  )
  assert isinstance(case('t5_1_1').model, t5.T5)
