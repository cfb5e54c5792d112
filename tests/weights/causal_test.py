"""GPTs' files: what fits, what does not, and boxes of fused kernels."""

import functools
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from goldens import causal_models

from ptjax.config import UserError
from ptjax.weights import block, families, load, save
from weights import files

CASES = sorted(causal_models.CASES)
HEADS = {
  'gpt2_untied': ('lm_head.weight', 'wte.weight'),
  'pythia': ('embed_out.weight', 'gpt_neox.embed_in.weight'),
  'llama': ('lm_head.weight', 'model.embed_tokens.weight'),
}


@functools.cache
def case(name: str) -> load.Loaded:
  return load.load(str(causal_models.FOLDER / name))


def copy(name: str, folder: pathlib.Path) -> pathlib.Path:
  """A recorded folder that a test may break, as safetensors."""
  shutil.copytree(causal_models.FOLDER / name, folder)
  if not (folder / 'model.safetensors').exists():
    source, _ = load.describe(folder)
    shapes = source.shapes.items()
    tensors = {n: source.read(n, 0, shape[0]) for n, shape in shapes}
    (folder / 'pytorch_model.bin').unlink()
    files.write_safetensors(folder / 'model.safetensors', tensors)
  return folder


def rewrite(folder: pathlib.Path, change) -> None:
  path = folder / 'model.safetensors'
  tensors = files.read_safetensors(path)
  change(tensors)
  files.write_safetensors(path, tensors)


def configure(folder: pathlib.Path, **changes) -> None:
  path = folder / 'config.json'
  values = json.loads(path.read_text()) | changes
  kept = {key: value for key, value in values.items() if value != 'gone'}
  path.write_text(json.dumps(kept))


def same(one: load.Loaded, other: load.Loaded) -> bool:
  leaves = jax.tree.leaves(one.params), jax.tree.leaves(other.params)
  assert len(leaves[0]) == len(leaves[1])
  return all(np.array_equal(a, b) for a, b in zip(*leaves))


@pytest.mark.parametrize('name', CASES)
def test_devices_read_their_own_part(name):
  """Every box of every parameter is cut from the file as from the whole."""
  source, config = load.describe(causal_models.FOLDER / name)
  rng = np.random.default_rng(0)
  for row in families.of_config(config).tensors(config):
    whole = case(name).params
    for key in row.path.split('/'):
      whole = whole[key]
    for _ in range(3):
      ends = [sorted(rng.integers(0, n + 1, 2)) for n in whole.shape]
      index = tuple(slice(int(a), int(b)) for a, b in ends)
      (leaf,) = block.leaves(row, np.dtype(np.float32), eight=False)
      box = leaf.read(source, index)
      np.testing.assert_array_equal(box, np.asarray(whole)[index], row.path)


def test_a_box_reads_only_its_rows(monkeypatch):
  """One head of a fused kernel: a third of the rows, in each layer."""
  source, config = load.describe(causal_models.FOLDER / 'pythia')
  rows = {r.path: r for r in families.of_config(config).tensors(config)}
  row = rows['layers/attention/query_key_value/kernel']
  read, calls = source.read, []
  monkeypatch.setattr(
    source, 'read', lambda *args: calls.append(args) or read(*args)
  )
  everything = slice(0, 24), slice(1, 2), slice(0, 3), slice(0, 8)
  (leaf,) = block.leaves(row, np.dtype(np.float32), eight=False)
  leaf.read(source, (slice(0, 2), *everything))
  assert [call[1:] for call in calls] == [(24, 48)] * 2


@pytest.mark.parametrize('dtype', ('float32', 'bfloat16'))
@pytest.mark.parametrize('name', CASES)
def test_what_is_saved_is_what_was_loaded(name, dtype, tmp_path):
  held = load.load(str(causal_models.FOLDER / name), dtype=dtype)
  save.save(tmp_path, held.params, held.config, dtype=dtype)
  again = load.load(str(tmp_path), dtype=dtype)
  assert again.config == held.config and same(again, held)
  if dtype == 'float32':
    assert again.fingerprint == held.fingerprint


@pytest.mark.parametrize('name', HEADS)
def test_a_head_is_tied_if_the_tensors_say_so(name, tmp_path):
  folder, (head, embedding) = copy(name, tmp_path / 'model'), HEADS[name]
  for flag in (True, False):
    configure(folder, tie_word_embeddings=flag)
    assert not load.load(str(folder)).config.tied
  rewrite(folder, lambda tensors: tensors.update({head: tensors[embedding]}))
  equal = load.load(str(folder))
  assert equal.config.tied and 'unembedder' not in equal.params
  rewrite(folder, lambda tensors: tensors.pop(head))
  absent = load.load(str(folder))
  assert absent.config == equal.config and same(absent, equal)


@pytest.mark.parametrize('name', CASES)
def test_missing_and_superfluous_are_listed(name, tmp_path):
  folder = copy(name, tmp_path / 'model')
  first = sorted(files.read_safetensors(folder / 'model.safetensors'))
  kept = [n for n in first if 'norm' in n or 'ln_' in n][0]

  def change(tensors):
    del tensors[kept]
    # Near misses of what is ignored.
    tensors['h.0.attn.biases'] = np.zeros((2, 3), np.float32)
    tensors['layers.0.attention.dense.bias2'] = np.zeros(4, np.float32)

  rewrite(folder, change)
  with pytest.raises(UserError) as caught:
    load.load(str(folder))
  message = str(caught.value)
  assert f'{kept} [' in message and '- 1 missing, + 2 superf' in message


def test_the_prefix_of_names_may_be_left_out(tmp_path):
  folder = copy('llama', tmp_path / 'model')

  def change(tensors):
    for name in list(tensors):
      tensors[name.removeprefix('model.')] = tensors.pop(name)
    old = 'layers.0.self_attn.rotary_emb.inv_freq'
    tensors[old] = np.zeros(2, np.float32)

  rewrite(folder, change)
  assert load.load(str(folder)).fingerprint == case('llama').fingerprint


@pytest.mark.parametrize(
  'name,changes,words',
  [
    ('gpt2', dict(scale_attn_weights=False), 'scale_attn_weights=False'),
    ('gpt2', dict(add_cross_attention=True), 'add_cross_attention=True'),
    ('gpt2', dict(n_head=4), 'width of 15 is not a multiple of 4'),
    ('gpt2', dict(n_positions='gone'), 'no whole number for n_positions'),
    ('gpt2', dict(activation_function='mish'), "'mish', expected one of gelu"),
    ('pythia', dict(rotary_pct=0.4), 'rotates 3 of 8.*an even number'),
    ('pythia', dict(rope_scaling={'type': 'linear'}), "'linear'; known are d"),
    ('pythia', dict(new_kind=1), 'new_kind=1, which this GPT-NeoX'),
    ('llama', dict(num_key_value_heads=4), '6 heads cannot share 4'),
    ('llama', dict(eos_token_id=[1, 99]), 'is 99, expected an id from 0 to 60'),
    ('llama', dict(attention_bias='false'), "'false', expected true or false"),
    ('gpt2', dict(n_inner=2.5), 'n_inner is 2.5, expected a whole number'),
    ('pythia', dict(layer_norm_eps='1e-5'), "is '1e-5', expected a number"),
    ('llama', dict(pretraining_tp=2), 'pretraining_tp=2'),
    ('llama3', dict(rope_scaling={'rope_type': 'yarn'}), "'yarn'; known"),
    ('pythia', dict(rope_scaling='linear'), "'linear', expected an object"),
    ('pythia', dict(rotary_emb_base='x'), "theta is 'x', expected a number ab"),
    ('pythia', dict(rotary_pct='0.25'), "is '0.25', expected a number above 0"),
    ('llama', dict(rope_parameters={'rope_theta': 0}), 'rope_theta is 0, exp'),
    (
      'llama',
      dict(rope_parameters={'partial_rotary_factor': 0.5}),
      'partial_rotary_factor=0.5, which this rope_type default',
    ),
    (
      'llama3',
      dict(rope_scaling={'rope_type': 'llama3', 'factor': 4.0}),
      'low_freq_factor is None, expected a number above 0',
    ),
    (
      'llama3',
      dict(rope_scaling={'rope_type': 'llama3', 'attention_factor': 2.0}),
      'attention_factor=2.0, which this rope_type llama3',
    ),
    ('llama', dict(model_type='mistral'), "'mistral'.*t5, mt5, gpt2, gpt_neox"),
  ],
)
def test_a_config_that_means_another_network_is_refused(
  name, changes, words, tmp_path
):
  folder = copy(name, tmp_path / 'model')
  configure(folder, **changes)
  with pytest.raises(UserError, match=words):
    load.load(str(folder))


def test_a_model_without_padding_pads_with_its_end(tmp_path):
  folder = copy('gpt2', tmp_path / 'model')
  assert case('gpt2').config.pad_id == case('gpt2').config.eos_id == 5
  configure(folder, pad_token_id=3)
  assert load.load(str(folder)).config.pad_id == 3


def test_a_model_may_have_several_ends_and_minus_one_is_no_padding(tmp_path):
  """As chat models' files and the first Llama's have it."""
  folder = copy('llama', tmp_path / 'model')
  configure(folder, eos_token_id=[7, 5], pad_token_id=-1)
  config = load.load(str(folder)).config
  assert (config.eos_id, config.ends, config.pad_id) == (7, (7, 5), 7)


@pytest.mark.parametrize('name', CASES)
def test_transformers_loads_what_is_saved(name, tmp_path):
  pytest.importorskip('torch', reason='torch is not installed')
  transformers = pytest.importorskip('transformers')
  save.save(tmp_path, case(name).params, case(name).config)
  network = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
  found = causal_models.computed(network.eval())
  recorded = np.load(causal_models.FOLDER / name / 'golden.npz')
  mask = causal_models.inputs()['mask'][:, :: causal_models.EVERY]
  np.testing.assert_allclose(
    found['logits'][mask], recorded['logits'][mask], rtol=1e-4, atol=1e-4
  )
  np.testing.assert_array_equal(found['greedy'], recorded['greedy'])
