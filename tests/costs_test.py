"""Methods in one table: what each scored, and what it cost."""

import json

import pytest
import tiny

from ptjax import costs


def test_a_row_is_the_mean_time_and_the_most_of_all_else():
  one = {
    'parameters': 1000,
    'file_bytes': 4200,
    'step_ms': 10.0,
    'step_bytes': 2**20,
  }
  other = {**one, 'step_ms': 20.0, 'step_bytes': 3 * 2**20}
  tasks = {'a': {'costs': one}, 'b': {'costs': other}}
  assert costs.row({'tasks': tasks}) == ['1,000', '4.2 kB', '15.0', '3.0']
  assert len(costs.HEAD) == 4
  assert costs.row({'tasks': {**tasks, 'c': {}}}) == []


@pytest.mark.full
def test_methods_are_trained_measured_and_used(tmp_path, call):
  """A user's path: the table of methods, then answers by one of them."""
  tiny.model_folder(tmp_path / 'model')
  tiny.data_folder(tmp_path / 'data', rows=8)
  changes = {
    **tiny.SHORT,
    'methods': 'ia3+lora',
    'method.rank': 3,
    'method.targets': 'wo',
    'train.costs': 2,
    'population.seeds': 2,
  }
  words = tiny.words(tmp_path, **changes)
  work = tmp_path / 'w'
  code, out, said = call(
    f'--config=configs/methods.py:{words}', f'--workdir={work}'
  )
  assert code == 0, said
  values = json.loads((work / 'ablation.json').read_text())['values']
  # Five layers of an mlp's last map, 36 to 24.
  for name, count in (('ia3', 5 * 36), ('lora', 5 * 3 * (36 + 24))):
    found = values[name]['costs']['cb']
    assert found['parameters'] == count
    assert 4 * count < found['file_bytes'] < 4 * count + 6000
    assert found['step_ms'] > 0 and found['step_bytes'] > 4 * count
    used = json.loads((work / name / 'config.json').read_text())
    assert used['optimizer.name'] == 'adamw'
  assert (work / 'ablation.txt').read_text() in out
  assert 'MiB a step' in out and '900' in out
  rows = [{'inputs': 'the cat sat'}, {'inputs': 'a red box', 'prompt': None}]
  text = '\n'.join(map(json.dumps, rows))
  (tmp_path / 'rows.jsonl').write_text(text)
  asked = (
    f'--config=configs/model.py:model={tmp_path / "model"},max_length=3',
    '--mode=predict',
    f'--prompt={work / "lora/prompts/cb/1.safetensors"}',
    f'--output={tmp_path / "out.jsonl"}',
  )
  code, _, said = call(*asked, f'--input={tmp_path / "rows.jsonl"}')
  assert code == 2 and 'row 2: asks for the model alone' in said
  (tmp_path / 'one.jsonl').write_text(json.dumps(rows[0]))
  code, _, said = call(*asked, f'--input={tmp_path / "one.jsonl"}')
  assert code == 0, said
  assert 'prediction' in json.loads((tmp_path / 'out.jsonl').read_text())


@pytest.mark.parametrize('words', ['methods=lora+lroa', 'methods=none'])
def test_a_method_that_does_not_train_is_told(call, words):
  code, _, said = call(f'--config=configs/methods.py:{words}')
  assert code == 2 and 'it can be soft_prompt, p_tuning' in said
