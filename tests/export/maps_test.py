"""LoRA and IA3 of PEFT, both ways: against PEFT itself, and as recorded."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from goldens import peft_adapters, peft_maps

from export import peft_test
from ptjax import config as config_lib
from ptjax import convert, prompted, tree
from ptjax.config import UserError
from ptjax.export import maps, names, peft
from ptjax.export.prompt import Prompt
from ptjax.methods import base
from ptjax.tuned import base as tuned_base
from ptjax.weights import families, load

theirs = peft_test.theirs  # PEFT, where it is installed
SEVERAL = [(m, n) for m in peft_maps.CONFIGS for n in peft_maps.MODELS]
# Against PEFT itself one of each kind; what is recorded holds the others.
LIVE = [
  pytest.param(
    *case,
    marks=()
    if case in (('lora', 'gpt2'), ('ia3', 't5_1_0'))
    else pytest.mark.full,
  )
  for case in SEVERAL
]
T5_1_1 = pytest.param('lora', 't5_1_1', marks=pytest.mark.full)


def folder_of(name: str) -> pathlib.Path:
  return peft_test.MODELS[name]


def golden(method: str, name: str) -> pathlib.Path:
  return peft_adapters.FOLDER / f'{method}_{name}'


def own(method: str, name: str, **settings) -> Prompt:
  """A LoRA or IA3 of ours at random values, as a run's file has it."""
  loaded = load.load(str(folder_of(name)))
  c = config_lib.default()
  c.method.update({'name': method, **settings})
  made = tuned_base.make(loaded.model, base.make(c.method))
  tuned, _ = made.init(jax.random.key(0), loaded.params)
  rng = np.random.default_rng(6)
  tuned = jax.tree.map(
    lambda x: np.asarray(x + 0.3 * rng.normal(size=x.shape), np.float32), tuned
  )
  record = {
    'method': c.method.to_dict(),
    'model': {'name': loaded.name, 'fingerprint': loaded.fingerprint},
  }
  return Prompt('p', tuned, record, 'p')


def export(found: Prompt, name: str, target: pathlib.Path) -> pathlib.Path:
  c = config_lib.default()
  c.model = str(folder_of(name))
  convert.run(c, [found], str(target), form='peft')
  return target


def settings_of(folder: pathlib.Path) -> dict:
  """adapter_config.json; PEFT's lists of targets are sets."""
  values = json.loads((folder / peft.CONFIG).read_text())
  return {k: sorted(v) if isinstance(v, list) else v for k, v in values.items()}


def tensors_of(folder: pathlib.Path) -> dict[str, np.ndarray]:
  return safetensors.numpy.load_file(folder / peft.MODEL)


def differs(name: str, expected) -> None:
  alone = peft_test.said(name, [])['logits']
  scale = np.abs(expected['logits']).max()
  assert np.abs(alone - expected['logits']).max() > 0.05 * scale


@pytest.mark.parametrize('method,name', [*LIVE, T5_1_1])
def test_peft_loads_what_is_written(method, name, theirs, tmp_path):
  found = own(method, name, rank=3, alpha=5.0)
  folder = export(found, name, tmp_path / 'ours')
  model = peft_adapters.network(folder_of(name))
  model = theirs.PeftModel.from_pretrained(model, folder)
  expected = peft_adapters.said(model)
  differs(name, expected)
  peft_test.assert_same(peft_test.said(name, [found]), expected, name)
  (again,) = names.find(str(folder))
  peft_test.assert_same(peft_test.said(name, [again]), expected, name)
  model.save_pretrained(tmp_path / 'theirs')
  said = settings_of(tmp_path / 'theirs')
  assert said.items() >= settings_of(folder).items()
  for path in (folder, tmp_path / 'theirs'):
    assert (path / peft.MODEL).read_bytes() == (
      folder / peft.MODEL
    ).read_bytes()


@pytest.mark.parametrize(
  'name,settings',
  [
    ('gpt2', {'use_rslora': True, 'target_modules': 'all-linear'}),
    ('gpt2_untied', {'target_modules': ['lm_head', 'mlp.c_proj']}),
    ('llama', {'layers_to_transform': [1], 'exclude_modules': ['q_proj']}),
    ('t5_1_0', {'target_modules': r'.*decoder.*(SelfAttention|Dense).*(q|wo)'}),
  ],
)
@pytest.mark.full
def test_other_maps_and_scales_of_peft_say_the_same_here(
  name, settings, theirs, tmp_path
):
  model = peft_adapters.network(peft_test.folder_of(name))
  model = peft_maps.adapter(model, 'lora', **settings)
  model.save_pretrained(tmp_path)
  (found,) = names.find(str(tmp_path))
  expected = peft_adapters.said(model)
  differs(name, expected)
  peft_test.assert_same(peft_test.said(name, [found]), expected, name)


@pytest.mark.parametrize('method,name', LIVE)
def test_what_peft_writes_says_the_same_here(method, name, theirs, tmp_path):
  model = peft_adapters.network(folder_of(name))
  model = peft_maps.adapter(model, method)
  model.save_pretrained(tmp_path)
  (found,) = names.find(str(tmp_path))
  expected = peft_adapters.said(model)
  peft_test.assert_same(peft_test.said(name, [found]), expected, name)


@pytest.mark.parametrize('method,name', SEVERAL)
def test_what_peft_wrote_says_what_it_said(method, name):
  """As recorded, with neither PEFT nor torch."""
  (found,) = names.find(str(golden(method, name)))
  recorded = np.load(golden(method, name) / peft_adapters.SAID)
  peft_test.assert_same(peft_test.said(name, [found]), recorded, name, every=7)
  alone = peft_test.said(name, [])['logits'][..., ::7]
  scale = np.abs(recorded['logits']).max()
  assert np.abs(alone - recorded['logits']).max() > 0.05 * scale


@pytest.mark.parametrize('method,name', SEVERAL)
def test_what_is_written_is_what_peft_wrote(method, name, tmp_path):
  folder = golden(method, name)
  found = names.one(str(folder))
  c = config_lib.default()
  c.model, c.any_model = str(folder_of(name)), True
  convert.run(c, [found], str(tmp_path / 'a'), form='peft', say=str)
  files = (tmp_path / 'a' / peft.MODEL, folder / peft.MODEL)
  assert len({file.read_bytes() for file in files}) == 1
  ours, other = settings_of(tmp_path / 'a'), settings_of(folder)
  assert ours.pop('base_model_name_or_path') == c.model
  assert other.pop('base_model_name_or_path') == f'goldens/{name}'
  assert other.items() >= ours.items()


def test_ends_of_names_are_those_of_the_chosen_maps_alone():
  def ends(name: str, *scopes: str) -> list[str]:
    config = load.describe(folder_of(name))[1]
    every = maps.of(families.of_config(config).tensors(config))
    return maps.ends([m for m in every if m.scope in scopes], every)

  both = ('layers/mlp/wo', 'layers/attention/out')
  assert ends('gpt2', both[0]) == ['mlp.c_proj']
  assert ends('gpt2', *both) == ['c_proj']
  assert ends('llama', 'layers/attention/query') == ['q_proj']
  t5 = [f'{side}/layers/{part}/query' for side, part in (
    ('encoder', 'attention'),
    ('decoder', 'self_attention'),
    ('decoder', 'cross_attention'),
  )]  # fmt: skip
  assert ends('t5_1_0', *t5) == ['q']
  assert ends('t5_1_0', t5[2]) == ['EncDecAttention.q']
  # No end tells the encoder's from the decoder's.
  assert ends('t5_1_0', t5[0]) == [
    f'encoder.block.{i}.layer.0.SelfAttention.q' for i in range(2)
  ]


@pytest.fixture
def folder(tmp_path):
  """The recorded LoRA of GPT-2, to be changed."""
  return pathlib.Path(
    shutil.copytree(golden('lora', 'gpt2'), tmp_path / 'adapter')
  )


MERGE = 'merge it by PEFT .merge_and_unload. and give'


@pytest.mark.parametrize(
  'values,sentence',
  [
    ({'use_dora': True}, f'says use_dora=True, .*; {MERGE}'),
    ({'rank_pattern': {'c_attn': 5}}, r"rank_pattern={'c_attn': 5}"),
    ({'alpha_pattern': {'c_attn': 5}}, 'alpha_pattern='),
    ({'bias': 'all'}, "bias='all'"),
    ({'lora_bias': True}, 'lora_bias=True'),
    ({'init_lora_weights': 'pissa'}, "init_lora_weights='pissa'"),
    ({'modules_to_save': ['lm_head']}, 'modules_to_save='),
    ({'layer_replication': [[0, 2]]}, 'layer_replication='),
    ({'alora_invocation_tokens': [1]}, 'alora_invocation_tokens='),
    ({'use_qalora': True}, 'use_qalora=True'),
    ({'new_in_peft': 1}, 'new_in_peft=1'),
    ({'r': 4}, 'A and B of .* says r=4'),
    ({'r': '3'}, "r is '3', expected a whole number"),
    ({'lora_alpha': 0}, 'lora_alpha is 0, expected a number above 0'),
    ({'target_modules': ['c_proj']}, "says target_modules=.'c_proj'."),
    ({'task_type': 'SEQ_CLS'}, 'task_type SEQ_CLS'),
    ({'peft_type': 'IA3'}, 'holds .*lora_A.weight of .* ia3 does not tune'),
  ],
)
def test_what_changes_the_result_otherwise_is_named(folder, values, sentence):
  peft_test.change(folder, **values)
  with pytest.raises(UserError, match=sentence) as error:
    names.find(str(folder))
  assert '\n' not in str(error.value) and str(folder) in str(error.value)


def test_foreign_tensors_and_pickles_are_refused(folder):
  tensors = tensors_of(folder)
  first = next(name for name in tensors if 'lora_A' in name)
  module = first.removesuffix('.lora_A.weight')

  def refused(changed, sentence):
    safetensors.numpy.save_file(changed, folder / peft.MODEL)
    with pytest.raises(UserError, match=sentence):
      names.find(str(folder))

  vector = {f'{module}.lora_magnitude_vector': np.ones(3, np.float32)}
  refused(tensors | vector, 'lora_magnitude_vector of shape')
  embedding = {
    'base_model.model.transformer.wte.lora_embedding_A': tensors[first]
  }
  refused(tensors | embedding, 'lora_embedding_A')
  half = {k: v for k, v in tensors.items() if k != first}
  refused(half, 'A and B of')
  refused(tensors | {first: tensors[first] * np.nan}, 'not finite')
  refused({}, 'holds no tensors')
  (folder / peft.MODEL).rename(folder / peft.PICKLE)
  with pytest.raises(UserError, match='is a pickle, .* save it again'):
    names.find(str(folder))


@pytest.mark.parametrize('method', peft_maps.CONFIGS)
def test_another_architecture_and_another_width_are_both_named(
  method, tmp_path
):
  def refused(name: str, model: str, sentence: str) -> None:
    c = config_lib.default()
    c.model, c.any_model = model, True
    found = names.find(str(golden(method, name)))
    with pytest.raises(UserError, match=sentence) as error:
      prompted.with_prompts(c, found)
    assert '\n' not in str(error.value)

  t5, gpt2 = str(folder_of('t5_1_0')), str(folder_of('gpt2'))
  refused(
    'gpt2',
    t5,
    r'of goldens/gpt2. tunes transformer\S*, which \S*t5_1_0 does not have, .*'
    r'encoder\.block',
  )
  refused(
    't5_1_0', gpt2, r'of goldens/t5_1_0. tunes \S*block\S*, which \S*gpt2'
  )
  refused(
    'gpt2',
    f'{gpt2}_untied',
    r'of goldens/gpt2. is of another width than \S*gpt2_untied: \S*c_attn .*'
    'gives 45 features there and 42 here',
  )


def test_by_default_another_models_name_is_refused():
  c = config_lib.default()
  c.model = str(folder_of('gpt2'))
  found = names.find(str(golden('lora', 'gpt2')))
  odd = found[0].record['base'] | {'name': 'openai/other'}
  other = Prompt('p', found[0].own, found[0].record | {'base': odd}, 'p')
  with pytest.raises(UserError, match='is of openai/other, not of'):
    prompted.with_prompts(c, [other])


def test_ia3_scales_only_what_ours_scales(tmp_path):
  shutil.copytree(golden('ia3', 'gpt2'), tmp_path / 'a')
  tensors = tensors_of(tmp_path / 'a')
  (tmp_path / 'a' / peft.MODEL).unlink()
  inner = {k: v for k, v in tensors.items() if 'mlp' in k}
  turned = {k: np.ones((15, 1), np.float32) for k in inner}
  safetensors.numpy.save_file(tensors | turned, tmp_path / 'a' / peft.MODEL)
  c = config_lib.default()
  c.model, c.any_model = str(folder_of('gpt2')), True
  with pytest.raises(UserError, match=r'scales what comes out of \S*mlp'):
    prompted.with_prompts(c, names.find(str(tmp_path / 'a')))


def test_loras_of_different_alpha_are_no_ensemble():
  from ptjax.export import bank

  first = names.one(str(golden('lora', 'gpt2')))
  method = first.record['method'] | {'alpha': 6.0}
  other = Prompt('q', first.own, first.record | {'method': method}, 'q')
  bank.same_model([first, first])
  with pytest.raises(
    UserError, match=r'not of one method.alpha: .* 5.0, q 6.0'
  ):
    bank.same_model([first, other])


def test_what_does_not_fit_is_not_written(tmp_path):
  found = own('lora', 'gpt2', rank=2)
  with pytest.raises(UserError, match='was trained on .*gpt2'):
    export(found, 't5_1_0', tmp_path / 'a')
  bare = Prompt('p', found.own, {}, 'p')
  with pytest.raises(UserError, match='does not say its method.alpha'):
    export(bare, 'gpt2', tmp_path / 'a')
  with pytest.raises(UserError, match='p tunes layers/attention/query_key'):
    export(bare, 'llama', tmp_path / 'a')
  flat = tree.flatten(found.own)
  odd = {name: leaf[:1] for name, leaf in flat.items()}
  with pytest.raises(UserError, match='has shape .* but the model .* needs'):
    export(Prompt('p', tree.unflatten(odd), {}, 'p'), 'gpt2', tmp_path / 'a')
  assert not (tmp_path / 'a').exists()
