"""`--mode=export`: what needs the model, and what is refused before it."""

import base64
import io
import json
import zipfile

import jax
import numpy as np
import pytest
import tiny

from ptjax import config as config_lib
from ptjax import convert, prompted, serve, tree
from ptjax.config import UserError
from ptjax.export import names, npy, peft, prompt
from ptjax.weights import load

ROWS = np.random.default_rng(0).normal(size=(5, 24)).astype(np.float32)


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  """Models of either kind, a prompt of both widths, a T5 that was tuned."""
  path = tmp_path_factory.mktemp('convert')
  tiny.model_folder(path / 't5')
  tiny.gpt_folder(path / 'gpt')
  npy.write(path / 'p.npy', ROWS)
  npy.write(path / 'wide.npy', np.ones((5, 25)))
  npy.write(path / 'short.npy', ROWS[:2])
  loaded = load.load(str(path / 't5'))
  model = {'name': loaded.name, 'fingerprint': loaded.fingerprint}
  noise = jax.tree.map(lambda x: np.asarray(x) * 1.5 + 0.1, loaded.params)
  bare = {'model': noise}
  record = {'method': {'name': 'model_tuning'}, 'model': model}
  prompt.write(path / 'tuned.safetensors', bare, record)
  part = {'model': {'encoder': {'norm': noise['encoder']['norm']}}}
  prompt.write(path / 'part.safetensors', part, record)
  record = record | {'method': {'name': 'soft_prompt'}}
  own = {'prompt': {'encoder': ROWS}}
  prompt.write(path / 't5.safetensors', own, record)
  return path


def config(room, model='t5', **changes):
  c = config_lib.default()
  c.model, c.max_length = str(room / model), 4
  c.update(changes)
  return c


def export(room, found, target, form, *, model='t5', source='', **changes):
  said = []
  convert.run(
    *(config(room, model, **changes), names.find(str(room / found))),
    str(target),
    form=form,
    source=str(source),
    say=said.append,
  )
  return said


@pytest.mark.parametrize('model', ['t5', 'gpt'])
def test_an_adapter_comes_back_and_names_its_model(room, tmp_path, model):
  assert not export(room, 'p.npy', tmp_path / 'a', 'peft', model=model)
  (found,) = names.find(str(tmp_path / 'a'))
  np.testing.assert_array_equal(found.rows, ROWS)
  assert found.name == 'a'
  values = json.loads((tmp_path / 'a' / peft.CONFIG).read_text())
  kinds = {'t5': 'SEQ_2_SEQ_LM', 'gpt': 'CAUSAL_LM'}
  assert values['task_type'] == kinds[model]
  assert values['base_model_name_or_path'] == str(room / model)
  assert values['num_layers'] == values['num_attention_heads'] - 1 == 2
  prompted.with_prompts(config(room, model), [found])
  other = 'gpt' if model == 't5' else 't5'
  with pytest.raises(UserError, match=r'adapter .* is of \S+, not of'):
    prompted.with_prompts(config(room, other), [found])
  said = []
  loose = config(room, other, any_model=True)
  prompted.with_prompts(loose, [found], say=said.append)
  assert said[0].startswith('WARNING: any_model=true: the adapter')


@pytest.mark.parametrize(
  'found,form,changes,sentence',
  [
    ('wide.npy', 'peft', {}, 'has 25 features, but .* has 24'),
    ('t5.safetensors', 'peft', {'model': 'gpt'}, 'was trained on .* not on'),
    ('tuned.safetensors', 'peft', {}, 'is no soft prompt alone'),
    ('tuned.safetensors', 'tensorrt_llm', {}, 'is no soft prompt alone'),
    ('p.npy', 'hf', {}, 'changes none: it holds prompt/encoder; use --format='),
    ('p.npy', 'npy', {'source': 'rows'}, '--input does nothing in --format='),
    ('p.npy', 'pefd', {}, "'pefd' is not known, did you mean 'peft'"),
  ],
)
def test_what_cannot_be_written_is_told_and_nothing_is(
  room, tmp_path, found, form, changes, sentence
):
  with pytest.raises(UserError, match=sentence):
    export(room, found, tmp_path / 'new', form, **changes)
  assert not list(tmp_path.iterdir())


def test_a_table_says_its_tasks(room, tmp_path):
  both = f'{room / "p.npy"},{room / "short.npy"}'
  (said,) = export(room, both, tmp_path / 't.npy', 'tensorrt_llm')
  assert said.endswith('tasks 0 p (5 virtual tokens), 1 short (2)')
  assert np.load(tmp_path / 't.npy').shape == (2, 5, 24)


def read(text: str) -> np.ndarray:
  """The values of a tensor's file, which stand in it as they are."""
  with zipfile.ZipFile(io.BytesIO(base64.b64decode(text))) as archive:
    return np.frombuffer(archive.read('archive/data/0'), '<f4').reshape(-1, 24)


def test_a_request_holds_the_prompt_and_the_inputs_pieces(room, tmp_path):
  rows = [
    {'inputs': 'the cat sat', 'id': 7, 'prompt': 'p'},
    {'inputs': 'a red box', 'prompt': 'short'},
    {'input_ids': [12, 9], 'prompt': ''},
  ]
  source = tmp_path / 'rows.jsonl'
  source.write_text('\n'.join(map(json.dumps, rows)))
  both = f'{room / "p.npy"},{room / "short.npy"}'
  target = tmp_path / 'requests.jsonl'
  export(room, both, target, 'vllm', model='gpt', source=source)
  found = [json.loads(line) for line in target.read_text().splitlines()]
  kept = [{k: v for k, v in f.items() if k != 'prompt_embeds'} for f in found]
  assert kept == rows
  loaded = load.load(str(room / 'gpt'))
  table_VxD = np.asarray(loaded.params['token_embedder']['embedding'])
  server = serve.Server(config(room, 'gpt'), [])
  for row, front, made in zip(rows, (ROWS, ROWS[:2], ROWS[:0]), found):
    ids = row.get('input_ids') or server.parts.tokenizer.encode(row['inputs'])
    embeds_LxD = read(made['prompt_embeds'])
    np.testing.assert_array_equal(embeds_LxD, [*front, *table_VxD[ids]])
  with pytest.raises(UserError, match='is an encoder-decoder model'):
    export(room, 'p.npy', tmp_path / 'x', 'vllm', source=source)


@pytest.mark.parametrize('found', ['tuned', 'part'])
def test_merged_weights_are_a_model_of_their_own(room, tmp_path, found):
  """Also where `tune` let a part train, and whatever a device computes in."""
  source = f'{found}.safetensors'
  export(room, source, tmp_path / 'm', 'hf', dtype='bfloat16')
  first = load.load(str(room / 't5'))
  merged = load.load(str(tmp_path / 'm'))
  own = tree.flatten(names.one(str(room / f'{found}.safetensors')).own)
  for name, leaf in tree.flatten({'model': merged.params}).items():
    want = own.get(name, tree.flatten({'model': first.params})[name])
    np.testing.assert_array_equal(leaf, want)
  assert merged.config == first.config
  rows = [{'inputs': 'the cat sat', 'targets': 'here'}]
  # Its own tokenizer has come along.
  alone = config_lib.default()
  alone.model = str(tmp_path / 'm')
  prompts = names.find(str(room / f'{found}.safetensors'))
  scores = (
    serve.Server(c, p).score(rows)[0]['log_prob']
    for c, p in ((alone, []), (config(room), prompts), (config(room), []))
  )
  merged_nats, tuned_nats, first_nats = scores
  assert merged_nats == pytest.approx(tuned_nats, rel=1e-6)
  assert abs(first_nats - tuned_nats) > 1e-3


def test_transformers_loads_merged_weights(room, tmp_path):
  torch = pytest.importorskip('torch', reason='torch is not installed')
  transformers = pytest.importorskip('transformers')
  export(room, 'tuned.safetensors', tmp_path / 'm', 'hf')
  prompts = names.find(str(room / 'tuned.safetensors'))
  made, tuned, frozen = prompted.with_prompts(config(room), prompts)
  batch = tiny.batch()
  one = jax.tree.map(lambda x: x[0], tuned)
  ours = np.asarray(jax.jit(made.tuned_model.logits)(one, frozen, batch))
  auto = transformers.T5ForConditionalGeneration
  network = auto.from_pretrained(tmp_path / 'm').eval()
  shifted = np.pad(batch['targets'], ((0, 0), (1, 0)))[:, :-1]
  with torch.no_grad():
    found = network(
      input_ids=torch.tensor(batch['inputs']).long(),
      attention_mask=torch.tensor(batch['input_mask']).long(),
      decoder_input_ids=torch.tensor(shifted).long(),
    ).logits.numpy()
  mask = batch['target_mask']
  error = np.abs(found - ours)[mask].max() / np.abs(ours[mask]).max()
  assert error <= 1e-5


def test_an_embedded_models_adapter_names_its_folder(tmp_path):
  c = config_lib.default()
  width = load.load('miniature', parameters=False).config.d_model
  npy.write(tmp_path / 'p.npy', np.ones((2, width)))
  found = names.find(str(tmp_path / 'p.npy'))
  convert.run(c, found, str(tmp_path / 'a'), form='peft')
  values = json.loads((tmp_path / 'a' / peft.CONFIG).read_text())
  assert (tmp_path / values['base_model_name_or_path'] / 'config.json').exists()
  assert load.resolve('miniature').samefile(values['base_model_name_or_path'])
  (again,) = names.find(str(tmp_path / 'a'))
  base = prompted.base(load.load('miniature', parameters=False))
  assert not peft.misfit(again, base)
