"""Rows in, rows out; what is refused; prompts that fit and that do not."""

import json
import shutil

import jax
import numpy as np
import pytest
import tiny

from ptjax import assemble, serve, tree
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.export import names, npy
from ptjax.export.prompt import Prompt


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  path = tmp_path_factory.mktemp('serve')
  tiny.model_folder(path / 'model')
  rows = np.random.default_rng(0).normal(size=(5, 24)).astype(np.float32)
  npy.write(path / 'p.npy', rows)
  return path


def config(room, **changes):
  c = config_lib.default()
  c.model, c.max_length = str(room / 'model'), 4
  c.update(changes)
  return c


@pytest.fixture(scope='module')
def made(room):
  """A server of one prompt."""
  return serve.Server(config(room), names.find(str(room / 'p.npy')))


def test_a_score_is_the_sum_over_target_and_end(made):
  built, own, frozen = made.parts, made.tuned, made.frozen
  rows = [
    {'inputs': 'the cat sat', 'targets': 'here'},
    {'inputs': 'a red box is there', 'targets': 'dog sat on'},
    {'input_ids': [3, 4], 'target_ids': [5, 6, 7]},
  ]
  found = made.score(rows)
  assert [f['num_tokens'] for f in found] == [2, 4, 3]
  inputs, targets = np.zeros((2, 3, 8), np.int32)
  for i, row in enumerate(rows):
    for array, text, ids in (
      (inputs, 'inputs', 'input_ids'),
      (targets, 'targets', 'target_ids'),
    ):
      out = row.get(ids) or [*built.tokenizer.encode(row[text]), 1]
      array[i, : len(out)] = out
  batch = {'inputs': inputs, 'input_mask': inputs > 0, 'targets': targets}
  logits = jax.jit(built.tuned_model.logits)(own, frozen, batch)
  nats = np.asarray(jax.nn.log_softmax(logits), np.float64)
  hit = np.take_along_axis(nats, targets[..., None], axis=-1)[..., 0]
  want = np.where(targets > 0, hit, 0).sum(1)
  np.testing.assert_allclose([f['log_prob'] for f in found], want, atol=1e-4)


def test_predictions_stand_in_the_order_of_the_rows(made):
  texts = ['the cat sat', 'a', 'dog ran on a red mat box is was', 'here']
  rows = [{'inputs': text} for text in texts]
  found = made.predict(rows)
  back = made.predict(rows[::-1])
  assert found == back[::-1] and len(found) == 4
  assert made.predict([]) == []


@pytest.fixture(scope='module')
def mixed(room):
  """A server of three prompts, of 5, 2 and 5 virtual tokens."""
  rng = np.random.default_rng(1)
  prompts = [
    Prompt(name, {'prompt': {'encoder': rows.astype(np.float32)}}, {}, name)
    for name, rows in (
      ('a', rng.normal(size=(5, 24))),
      ('b', 3 * rng.normal(size=(2, 24))),
      ('c', rng.normal(size=(5, 24))),
    )
  ]
  return prompts, serve.Server(config(room), prompts)


def test_rows_of_different_prompts_in_one_batch_are_as_if_apart(room, mixed):
  """Also of another length, and of none."""
  prompts, server = mixed
  texts = [
    'the cat sat',
    'a',
    'dog ran on a red mat box is was',
    'here',
    'on a',
  ]
  named = ['b', 'a', '', 'c', 'b']
  rows = [
    {'inputs': t, 'targets': 'dog sat', 'prompt': n}
    for t, n in zip(texts, named)
  ]
  nats = [found['log_prob'] for found in server.score(rows)]
  said = [found['prediction'] for found in server.predict(rows)]
  for i, row in enumerate(rows):
    own = [p for p in prompts if p.name == row['prompt']]
    alone = serve.Server(config(room), own)
    bare = {k: v for k, v in row.items() if k != 'prompt'}
    assert alone.score([bare])[0]['log_prob'] == pytest.approx(
      nats[i], rel=1e-5, abs=1e-5
    )
    assert alone.predict([bare])[0]['prediction'] == said[i]
  assert len({round(n, 3) for n in nats}) == 5


@pytest.mark.parametrize(
  'row,sentence',
  [
    ({}, "no field 'prompt', which must name one of the 3 prompts a, b, c"),
    ({'prompt': 'd'}, "there is no prompt 'd'.*; --prompt names a, b, c"),
    ({'prompt': 7}, 'there is no prompt 7'),
  ],
)
def test_a_row_names_a_prompt_that_is_there(mixed, row, sentence):
  good = {'inputs': 'a', 'prompt': 'a'}
  with pytest.raises(UserError, match=f'row 2: {sentence}'):
    mixed[1].predict([good, {'inputs': 'a', **row}])


def test_prompts_of_two_models_are_not_served_together(room):
  records = [{'model': {'fingerprint': f}} for f in 'xy']
  prompts = [
    Prompt(f'p{i}', {'prompt': {'encoder': np.ones((2, 24))}}, r, f'p{i}')
    for i, r in enumerate(records)
  ]
  with pytest.raises(UserError, match='one frozen model: p0 x, p1 y'):
    serve.Server(config(room), prompts)


def test_a_prompt_of_another_model_is_let_in_loudly(room, capsys):
  record = {'model': {'name': 'm', 'fingerprint': 'another'}}
  own = {'prompt': {'encoder': np.ones((2, 24), np.float32)}}
  found = [Prompt('p', own, record, 'p.safetensors')]
  with pytest.raises(UserError, match='or set any_model=true'):
    serve.Server(config(room), found)
  serve.Server(config(room, any_model=True), found)
  said = capsys.readouterr().out
  assert 'WARNING: any_model=true: p.safetensors was trained on m' in said


@pytest.mark.parametrize(
  'row,sentence',
  [
    ({'inputs': 5}, "'inputs' is 5, not text"),
    ({'inputs': None}, "'inputs' is null, not text"),
    ({'inputs': '\ud800'}, 'half of a surrogate pair'),
    ({'input_ids': [61]}, 'not a list of ids from 0 to 60'),
    ({'input_ids': [-1]}, 'not a list of ids'),
    ({'input_ids': [1.5]}, 'not a list of ids'),
    ({'input_ids': 'the'}, 'not a list of ids'),
    ({'input_ids': []}, 'is empty'),
  ],
)
def test_a_row_that_means_nothing_is_told_by_its_number(made, row, sentence):
  """Ids from the vocabulary's end upward would read the prompt's rows."""
  good = {'inputs': 'the cat'}
  with pytest.raises(UserError, match=f'row 2: .*{sentence}'):
    made.predict([good, row])


@pytest.mark.parametrize(
  'data,sentence',
  [
    (b'{"inputs": "a"}\n{"input": "b"}\n', "row 2: no 'inputs' .*fields input"),
    (b'{"inputs": "a"}\nnot json\n', 'line 2 is no JSON'),
    (b'[1]\n', 'not an object'),
    (b'{"inputs": "\xff"}\n', 'is not UTF-8'),
    (None, 'No such file'),
  ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, data, sentence):
  path = tmp_path / 'rows.jsonl'
  if data is not None:
    path.write_bytes(data)
  with pytest.raises(UserError, match=sentence):
    list(serve.read_rows(str(path), 'predict'))


def test_an_empty_file_gives_an_empty_one_and_odd_text_survives(
  room, tmp_path, monkeypatch
):
  class Server:
    def __init__(self, *_):
      pass

    def predict(self, rows):
      return [{'prediction': 'é\ud800'}] * len(rows)

  monkeypatch.setattr(serve, 'Server', Server)
  source, target = tmp_path / 'in.jsonl', tmp_path / 'new' / 'out.jsonl'
  flags = {'mode': 'predict', 'source': str(source), 'target': str(target)}
  source.write_text('')
  serve.run(config(room), **flags, prompt='')
  assert target.read_text() == ''
  source.write_text('{"inputs": "ü", "n": [1, null]}\n')
  serve.run(config(room), **flags, prompt='')
  (line,) = target.read_text('utf-8').splitlines()
  want = {'inputs': 'ü', 'n': [1, None], 'prediction': 'é\ud800'}
  assert json.loads(line) == want and 'é' in line
  assert [p.name for p in target.parent.iterdir()] == ['out.jsonl']


def test_a_failure_leaves_the_earlier_answers(room, tmp_path, monkeypatch):
  source, target = tmp_path / 'in.jsonl', tmp_path / 'out.jsonl'
  source.write_text('{"inputs": "a"}\n')
  target.write_text('earlier\n')

  def fail(*_):
    raise UserError('no such model')

  monkeypatch.setattr(serve, 'Server', fail)
  with pytest.raises(UserError):
    serve.run(
      config(room),
      mode='predict',
      source=str(source),
      target=str(target),
      prompt='',
    )
  assert target.read_text() == 'earlier\n'
  assert sorted(p.name for p in tmp_path.iterdir()) == ['in.jsonl', 'out.jsonl']


@pytest.mark.parametrize(
  'held,sentence',
  [
    ({'prompt/encoder': (5, 8)}, r'shape \(5, 8\), but .* needs \(5, 24\)'),
    ({'prompt/encoder': ()}, r'shape \(\), but'),
    ({'prompt/deep': (5, 24)}, "holds 'prompt/deep', which"),
    ({'model/nothing': (2,)}, "holds 'model/nothing', which"),
    ({'model/encoder/final_norm/scale': (7,)}, r'shape \(7,\), but|which'),
  ],
)
def test_what_does_not_fit_the_model_is_refused(made, held, sentence):
  own = {name: np.zeros(shape, np.float32) for name, shape in held.items()}
  with pytest.raises(UserError, match=sentence):
    made.parts.place([tree.unflatten(own)])


def test_another_models_tokenizer_is_refused(room, made, tmp_path):
  """Its ids above the embedding's rows would be read as a prompt."""
  folder = tmp_path / 'other'
  folder.mkdir()
  text = (room / 'model/tokenizer.json').read_text()
  vocab = json.loads(text)
  vocab['model']['vocab'] |= {f'more{i}': 26 + i for i in range(60)}
  (folder / 'tokenizer.json').write_text(json.dumps(vocab))
  c = config(room, tokenizer=str(folder))
  with pytest.raises(UserError, match='has 86 pieces, but there are 61'):
    assemble.parts(c)
  vocab['model']['vocab'] = {'<pad>': 1, '</s>': 0, '<unk>': 2}
  (folder / 'tokenizer.json').write_text(json.dumps(vocab))
  with pytest.raises(UserError, match='ends with id 0 and pads with 1'):
    assemble.parts(c)


def test_a_t5x_checkpoint_scores_ids_as_t5x_does(shared, tmp_path, call):
  """It has no tokenizer and needs none for ids; text is told so."""
  tiny_ = shared / 'acceptance' / 't5x_tiny'
  golden = np.load(tiny_ / 'golden.npz')
  folder = tmp_path / 't5x'
  shutil.copytree(tiny_ / 'checkpoint_3', folder)
  (folder / 'config.json').write_text('{"relative_attention_max_distance": 8}')
  prompt = tmp_path / 'prompt.npy'
  np.save(prompt, np.load(tiny_ / 'prompt_5x256.npy')[:, :4].astype('float32'))
  rows = [
    {'input_ids': [i for i in ei if i], 'target_ids': [t for t in ti if t]}
    for ei, ti in zip(golden['ei'].tolist(), golden['ti'].tolist())
  ]
  source, target = tmp_path / 'rows.jsonl', tmp_path / 'out.jsonl'
  source.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  asked = [
    f'--config=configs/model.py:model={folder}',
    *('--mode=score', f'--input={source}', f'--output={target}'),
  ]
  for flags, want in (
    ([], (-19.378336, -64.885193)),
    ([f'--prompt={prompt}'], (-19.545769, -62.202065)),
  ):
    code, _, said = call(*asked, *flags)
    assert code == 0, said
    got = [json.loads(x)['log_prob'] for x in target.read_text().splitlines()]
    assert got == pytest.approx(want, rel=1e-5)
  source.write_text('{"inputs": "text", "targets": "text"}\n')
  code, _, said = call(*asked)
  assert code == 2 and 'holds no tokenizer' in said


@pytest.fixture(scope='module')
def gpt(room):
  tiny.gpt_folder(room / 'gpt')
  rng = np.random.default_rng(2)
  prompts = [
    Prompt(name, {'prompt': {'encoder': rows.astype(np.float32)}}, {}, name)
    for name, rows in (
      ('a', rng.normal(size=(5, 24))),
      ('b', rng.normal(size=(2, 24))),
    )
  ]
  c = config(room, model=str(room / 'gpt'))
  return c, prompts, serve.Server(c, prompts)


def test_a_decoder_only_model_scores_what_goes_on_from_the_input(gpt):
  """Text as its ids: no EOS between, and the space is the answer's."""
  config_, prompts, server = gpt
  encode = server.parts.tokenizer.encode
  rows = [
    {'inputs': 'a cat sat: ', 'targets': 'not here', 'prompt': 'b'},
    {'inputs': 'a dog', 'targets': 'on', 'prompt': ''},
  ]
  ids = [
    {
      'input_ids': encode(before),
      'target_ids': [*encode(behind), 5],
      'prompt': row['prompt'],
    }
    for row, before, behind in zip(
      rows, ('a cat sat:', 'a dog'), (' not here', ' on')
    )
  ]
  found, want = server.score(rows), server.score(ids)
  assert [f['num_tokens'] for f in found] == [3, 2]
  for one, other in zip(found, want):
    assert one == pytest.approx(other, abs=1e-5)
  alone = serve.Server(config_, prompts[1:])
  bare = {k: v for k, v in rows[0].items() if k != 'prompt'}
  assert alone.score([bare])[0]['log_prob'] == pytest.approx(
    found[0]['log_prob'], abs=1e-5
  )


def test_a_text_too_long_for_the_model_is_refused_with_both_numbers(gpt):
  _, _, server = gpt
  rows = [{'inputs': 'a' + ' cat' * 199, 'prompt': 'a'}]
  with pytest.raises(UserError, match='need 209 positions.*the model has 200'):
    server.predict(rows)
