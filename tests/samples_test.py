"""What a run's prompts say to one input: the file, the lines, predict's own."""

import json

import pytest
import tiny

from ptjax import assemble, samples, train
from ptjax import config as config_lib
from ptjax.config import UserError

QUERY = 'hypothesis : the cat sat premise : the dog ran'


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'samples.count': 0}, 'samples.count=0 must be at least 1'),
    ({'samples.temperature': 0.0}, 'samples.count=3 greedy answers are one'),
    ({'samples.temperature': -1.0}, 'temperature=-1.0, .* need temperature'),
  ],
)
def test_what_could_not_differ_is_refused_before_a_run(changes, sentence):
  c = config_lib.update(
    config_lib.default(), {'samples.query': QUERY, **changes}
  )
  with pytest.raises(UserError, match=sentence):
    train.check(c)
  c.samples.query = ''
  assert train.check(c)


def test_samples_are_drawn_also_where_beams_find_what_is_scored():
  changes = {'samples.query': QUERY, 'beams': 3}
  c = config_lib.update(config_lib.default(), changes)
  assert train.check(c)
  assert samples._drawn(c).beams == 1
  c.samples.temperature, c.samples.count = 0.0, 1
  assert samples._drawn(c).beams == 3 == c.beams


def test_an_input_without_room_is_refused_before_a_run(tmp_path):
  c = config_lib.update(
    config_lib.default(),
    {
      'model': str(tiny.gpt_folder(tmp_path / 'model')),
      'data': str(tiny.data_folder(tmp_path / 'data', rows=8)),
      'task': 'cb',
      'method.length': 5,
      'samples.query': 'the cat sat',
      'max_length': 193,
      'train.steps': 1,
    },
  )
  with pytest.raises(UserError, match='inputs of 3 and .* need 201 positions'):
    train.run(c, tmp_path / 'w')
  assert not (tmp_path / 'w/checkpoints').exists()
  samples.check_fit(assemble.parts(config_lib.update(c, {'max_length': 192})))


def test_the_best_prompt_s_answers_are_those_of_predict(tmp_path, call):
  room, folder = tmp_path, tmp_path / 'w'
  tiny.model_folder(room / 'model')
  tiny.data_folder(room / 'data', rows=8)
  changes = {
    **tiny.SHORT,
    'samples.query': QUERY,
    'samples.count': 4,
    'samples.temperature': 2.0,
    'max_length': 7,
    'population.seeds': 2,
  }
  words = tiny.words(room, **changes)
  config = f'--config=configs/superglue.py:{words}'
  code, out, said = call(config, f'--workdir={folder}')
  assert code == 0, said
  found = json.loads((folder / 'samples/cb.json').read_text())
  assert found['query'] == QUERY and found['temperature'] == 2.0
  # Draws of a random model: four of seven pieces do not come out alike.
  assert len(found['answers']) == 4 and len(set(found['answers'])) > 1
  assert all(f'  {answer!r}\n' in out for answer in found['answers'])
  task = json.loads((folder / 'results.json').read_text())['tasks']['cb']
  name = f'cb/{task["best_member"]}'
  assert found['prompt'] == name

  rows = room / 'rows.jsonl'
  rows.write_text((json.dumps({'inputs': QUERY}) + '\n') * 4)
  code, _, said = call(
    f'{config},temperature=2.0',
    '--mode=predict',
    f'--prompt={folder / "prompts" / name}.safetensors',
    f'--input={rows}',
    f'--output={room / "answers.jsonl"}',
  )
  assert code == 0, said
  lines = (room / 'answers.jsonl').read_text().splitlines()
  assert [json.loads(x)['prediction'] for x in lines] == found['answers']

  # Gone on with, it tells them again.
  code, out, said = call(config, f'--workdir={folder}')
  assert code == 0 and f'cb: {QUERY}' in out
