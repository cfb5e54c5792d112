"""Soft prompts of PEFT, both ways: against PEFT itself, and as recorded."""

import functools
import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from goldens import causal_models, peft_adapters, t5_models

from ptjax import config as config_lib
from ptjax import prompted
from ptjax.config import UserError
from ptjax.export import bank, names, peft
from ptjax.export.prompt import Prompt
from ptjax.weights import load

MODELS = {
  name: folder / name
  for folder, cases in (
    (t5_models.FOLDER, ('t5_1_0', 't5_1_1')),
    (causal_models.FOLDER, ('gpt2', 'pythia', 'llama')),
  )
  for name in cases
}
RARE = [
  pytest.param(name, marks=() if name in peft_adapters.MODELS else full)
  for full in (pytest.mark.full,)
  for name in MODELS
]


def folder_of(name: str):
  """Of a model; not all of those beside GPT-2 are compared everywhere."""
  return MODELS.get(name) or MODELS['gpt2'].with_name(name)


# P-tuning's file holds what its encoder came to.
WRITTEN = [
  *(
    pytest.param(*case.values, 'PromptTuningConfig', marks=case.marks)
    for case in RARE
  ),
  *((name, 'PromptEncoderConfig') for name in peft_adapters.MODELS),
]


@pytest.fixture
def theirs():
  """PEFT, where it is installed."""
  for name in ('peft', 'torch', 'transformers'):
    pytest.importorskip(name, reason=f'{name} is not installed')
  import peft as module

  if module.__version__ != peft.VERSION:
    pytest.skip(f'PEFT {module.__version__} writes its own version, not ours')
  return module


@functools.cache
def loaded(name: str) -> load.Loaded:
  return load.load(str(folder_of(name)), parameters=False)


@functools.cache
def parts(name: str):
  config = config_lib.default()
  config.model = str(folder_of(name))
  return config, prompted.with_prompts(config, [])[0]


def said(name: str, prompts: list[Prompt]) -> dict[str, np.ndarray]:
  """What ptjax says to the goldens' rows: logits [B, T, V], greedy [B, S]."""
  config, made = parts(name)
  made, tuned, frozen = prompted.with_prompts(config, prompts, made=made)
  rows = peft_adapters.given(made.loaded.config.vocab_size)
  batch = {
    **rows,
    'input_mask': np.ones(rows['inputs'].shape, bool),
    'target_mask': np.ones(rows['targets'].shape, bool),
    'front': np.full(len(rows['inputs']), made.tuned_model.method.front),
    'index': np.arange(len(rows['inputs'])),
  }
  one = jax.tree.map(lambda x: x[0], tuned)
  logits = jax.jit(made.tuned_model.logits)(one, frozen, batch)
  out = {'logits': np.asarray(logits)}
  if prompts:
    ids = made.answers(tuned, frozen, batch, max_length=peft_adapters.STEPS)
    out['greedy'] = np.asarray(ids)[0]
  return out


def assert_same(found, expected, name: str, *, every: int = 1) -> None:
  """Logits to 1e-5 of the largest, and the same ids up to the end."""
  logits = found['logits'][..., ::every]
  error = np.abs(logits - expected['logits']).max()
  error /= np.abs(expected['logits']).max()
  print(f'\nrelative difference {name}: {error:.1e}')
  assert error <= 1e-5
  end = loaded(name).config.eos_id
  for ours, others in zip(found['greedy'], expected['greedy']):
    ended = np.flatnonzero(others == end)
    length = ended[0] + 1 if len(ended) else len(others)
    np.testing.assert_array_equal(ours[:length], others[:length])


def assert_peft_takes(found, name: str, theirs, folder) -> None:
  """What is written in folder/ours says the same there and read again here,
  and PEFT writes it byte for byte."""
  model = peft_adapters.network(MODELS[name])
  model = theirs.PeftModel.from_pretrained(model, folder / 'ours')
  expected = peft_adapters.said(model)
  assert_same(said(name, [found]), expected, name)
  assert_same(said(name, names.find(str(folder / 'ours'))), expected, name)
  model.save_pretrained(folder / 'theirs')
  for file in (peft.CONFIG, peft.MODEL):
    again = (folder / 'theirs' / file).read_bytes()
    assert again == (folder / 'ours' / file).read_bytes(), file


def rows(name: str, length: int = 4) -> np.ndarray:
  width = loaded(name).config.d_model
  rng = np.random.default_rng(8)
  return rng.normal(size=(length, width)).astype(np.float32)


def soft(name: str) -> Prompt:
  return Prompt('p', {'prompt': {'encoder': rows(name)}}, {}, 'p')


@pytest.mark.parametrize('name', RARE)
def test_peft_loads_what_is_written_and_would_write_the_same(
  name, theirs, tmp_path
):
  folder = tmp_path / 'ours'
  peft.write(folder, rows(name), prompted.base(loaded(name)))
  model = peft_adapters.network(MODELS[name])
  model = theirs.PeftModel.from_pretrained(model, folder)
  expected = peft_adapters.said(model)
  for prompts in ([soft(name)], names.find(str(folder))):
    assert_same(said(name, prompts), expected, name)
  model.save_pretrained(tmp_path / 'theirs')
  for file in (peft.CONFIG, peft.MODEL):
    again = (tmp_path / 'theirs' / file).read_bytes()
    assert again == (folder / file).read_bytes(), file


@pytest.mark.parametrize(
  'config', ['PromptTuningConfig', 'PromptEncoderConfig']
)
@pytest.mark.parametrize('name', RARE)
def test_what_peft_writes_says_the_same_here(name, config, theirs, tmp_path):
  """Also a T5's with rows for a decoder, and what P-tuning comes to."""
  model = peft_adapters.adapter(peft_adapters.network(MODELS[name]), config)
  model.save_pretrained(tmp_path)
  (found,) = names.find(str(tmp_path))
  assert found.rows.shape[0] == peft_adapters.LENGTH
  if 't5' in name:
    (held,) = safetensors.numpy.load_file(tmp_path / peft.MODEL).values()
    assert held.shape[0] == 2 * peft_adapters.LENGTH
  expected = peft_adapters.said(model)
  assert_same(said(name, [found]), expected, name)
  alone = said(name, [])['logits']
  assert np.abs(alone - expected['logits']).max() > 0.1


@pytest.mark.parametrize('name', sorted(peft_adapters.MODELS))
def test_what_peft_wrote_says_what_it_said(name):
  """As recorded, with neither PEFT nor torch."""
  folder = peft_adapters.FOLDER / name
  (found,) = names.find(str(folder))
  recorded = np.load(folder / peft_adapters.SAID)
  assert_same(said(name, [found]), recorded, name, every=7)


@pytest.mark.parametrize('name', sorted(peft_adapters.MODELS))
def test_what_is_written_is_what_peft_wrote_but_for_dead_rows(name, tmp_path):
  golden = peft_adapters.FOLDER / name
  peft.write(tmp_path, names.rows(str(golden)), prompted.base(loaded(name)))
  ours, other = (
    json.loads((folder / peft.CONFIG).read_text())
    for folder in (tmp_path, golden)
  )
  assert ours.pop('base_model_name_or_path') == str(MODELS[name])
  assert other.pop('base_model_name_or_path') == f'goldens/{name}'
  dead = other['num_transformer_submodules'] == 2
  assert ours == other | {'num_transformer_submodules': 1}
  if not dead:
    files = (folder / peft.MODEL for folder in (tmp_path, golden))
    assert len({file.read_bytes() for file in files}) == 1


@pytest.fixture
def folder(tmp_path):
  """The recorded adapter of a T5, to be changed."""
  return pathlib.Path(
    shutil.copytree(peft_adapters.FOLDER / 't5_1_0', tmp_path / 'adapter')
  )


def change(folder: pathlib.Path, **values) -> None:
  path = folder / peft.CONFIG
  path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
  'values,sentence',
  [
    ({'peft_type': 'OFT'}, r'peft_type OFT is no prompt; merge it by PEFT'),
    ({'peft_type': 'LORA'}, 'holds prompt_embeddings .* lora does not tune'),
    ({'peft_type': 'CPT'}, 'only PROMPT_TUNING, .*, LORA, IA3, .* are'),
    ({'peft_type': None}, 'peft_type None'),
    ({'peft_type': 7}, 'peft_type is 7, expected text'),
    ({'peft_type': 'PREFIX_TUNING'}, 'PEFT wires it wrongly: .* slots 4l'),
    ({'task_type': 'SEQ_CLS'}, 'task_type SEQ_CLS, but one is read of SEQ'),
    ({'task_type': None}, 'task_type None'),
    ({'num_virtual_tokens': None}, 'num_virtual_tokens is None, expected a'),
    ({'num_virtual_tokens': 6}, r'shape \(6, 10\), .* says 2 · 6 virtual'),
    ({'num_virtual_tokens': 3.0}, r'num_virtual_tokens is 3.0, expected'),
    ({'num_transformer_submodules': 1}, r'says 1 · 3 virtual tokens'),
    ({'num_transformer_submodules': 3}, 'is 3, expected at most 2'),
    (
      {'num_transformer_submodules': 2, 'task_type': 'CAUSAL_LM'},
      'is 2, expected at most 1',
    ),
    ({'token_dim': 12}, '10 features, but adapter_config.json says token_dim'),
    ({'modules_to_save': ['lm_head']}, r"modules_to_save=\['lm_head'\]"),
    ({'placement': 'behind'}, "placement='behind', which is not known here"),
  ],
)
def test_what_is_no_soft_prompt_is_refused(folder, values, sentence):
  change(folder, **values)
  with pytest.raises(UserError, match=sentence) as error:
    names.find(str(folder))
  assert '\n' not in str(error.value) and str(folder) in str(error.value)


def test_what_is_null_is_as_peft_fills_it(folder):
  """Which of our own reading nothing hangs on: shapes say the same."""
  expected = names.rows(str(folder))
  change(folder, num_transformer_submodules=None, token_dim=None, new=None)
  np.testing.assert_array_equal(names.rows(str(folder)), expected)
  for file in (peft.MODEL, peft.CONFIG):
    np.testing.assert_array_equal(names.rows(str(folder / file)), expected)


def test_a_pickle_is_refused_and_not_read(folder):
  (folder / peft.MODEL).rename(folder / peft.PICKLE)
  for path in (folder, folder / peft.PICKLE):
    with pytest.raises(UserError, match='is a pickle, .* save it again'):
      names.find(str(path))
  (folder / peft.PICKLE).unlink()
  with pytest.raises(UserError, match='has no adapter_model.safetensors'):
    names.find(str(folder))


def test_torn_and_foreign_files_are_refused(folder):
  path = folder / peft.MODEL
  whole = path.read_bytes()
  good = safetensors.numpy.load(whole)['prompt_embeddings']

  def refused(sentence):
    with pytest.raises(UserError, match=sentence):
      names.find(str(folder))

  path.write_bytes(whole[:-8])
  refused('ends before its last tensor does')
  path.write_bytes(b'')
  refused('not a whole safetensors')
  for tensors, sentence in (
    ({'prompt_embeddings': good, 'head': good}, 'alone; it is no adapter'),
    ({'prompt': good}, 'holds prompt, but'),
    ({'prompt_embeddings': good[0]}, r'shape \(10,\)'),
    ({'prompt_embeddings': good * np.nan}, 'not finite'),
    ({'prompt_embeddings': good.astype(np.int32)}, 'of type I32'),
  ):
    safetensors.numpy.save_file(tensors, path)
    refused(sentence)
  for text, sentence in (
    ('{', 'not readable as JSON'),
    ('[' * 10**5, 'not readable as JSON'),
    ('[]', 'expected an object'),
  ):
    (folder / peft.CONFIG).write_text(text)
    refused(sentence)
  (folder / peft.CONFIG).unlink()
  refused('has no adapter_config.json')


@pytest.mark.parametrize(
  'name,values,sentence',
  [
    ('gpt2', {}, r'is of goldens/t5_1_0, not of \S*gpt2 \(width 10 against 15'),
    ('t5_1_0', {'task_type': 'CAUSAL_LM'}, 'kind decoder-only against encoder'),
    ('t5_1_0', {'num_layers': 5}, 'layers 5 against 2'),
    ('t5_1_0', {'num_attention_heads': 4}, 'heads 4 against 3'),
    (
      't5_1_0',
      {'base_model_name_or_path': 'google/t5-small'},
      r'is of google/t5-small, not of \S*t5_1_0; name its model, or set any_m',
    ),
  ],
)
def test_another_models_adapter_is_refused(folder, name, values, sentence):
  if 'task_type' in values:
    values = values | {'num_transformer_submodules': 1, 'num_virtual_tokens': 6}
  change(folder, **values)
  (found,) = names.find(str(folder))
  model = prompted.base(loaded(name))
  with pytest.raises(UserError, match=sentence):
    peft.misfit(found, model)
  assert 'name its model' not in peft.misfit(found, model, strict=False)


def test_a_model_goes_by_its_last_name_and_what_is_not_said_fits(folder):
  model = prompted.base(loaded('t5_1_0'))
  for said_ in ('t5_1_0', 'x/t5_1_0', '/moved/to/t5_1_0/', model.name, None):
    change(folder, base_model_name_or_path=said_, num_layers=None)
    assert not peft.misfit(names.find(str(folder))[0], model)
  assert not peft.misfit(soft('t5_1_0'), model)


def test_the_bank_keeps_what_an_adapter_says(folder, tmp_path):
  bank.write(tmp_path / 'b.safetensors', names.find(str(folder)))
  (found,) = names.find(str(tmp_path / 'b.safetensors'))
  with pytest.raises(UserError, match='not of'):
    peft.misfit(found, prompted.base(loaded('gpt2')))
  for odd in ('text', {'name': 'x'}, found.record['base'] | {'task_type': 1}):
    odd = Prompt('p', found.own, {'base': odd}, 'p')
    with pytest.raises(UserError, match="record's 'base' is not what"):
      peft.misfit(odd, prompted.base(loaded('gpt2')))
