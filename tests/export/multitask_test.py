"""Prompts of many tasks in one file: ours, and PEFT's adapter, both ways."""

import json
import warnings

import numpy as np
import pytest
import safetensors.numpy
from goldens import peft_adapters

from export import peft_test
from ptjax import config as config_lib
from ptjax import convert
from ptjax.config import UserError
from ptjax.export import multitask, names, peft, prompt

theirs = peft_test.theirs  # PEFT, where it is installed
P, R, M = 3, 2, 4
TASKS = ['superglue/cb', 'superglue/rte', 'superglue/wic', 'raft/x']


def arrays(width: int) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  shapes = {'prompt': (P, width), 'cols': (M, P, R), 'rows': (M, R, width)}
  return {
    name: rng.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


def write(path, own, **record):
  record = {'method': {'name': multitask.METHOD}, 'tasks': TASKS} | record
  prompt.write(path, {multitask.OWN: own}, record)
  return path


def test_a_file_is_read_as_the_prompts_of_its_tasks(tmp_path):
  own = arrays(6)
  path = write(tmp_path / 'cb+rte.safetensors', own)
  found = names.find(str(path))
  assert [p.name for p in found] == ['cb', 'rte', 'wic', 'x']
  for k, one in enumerate(found):
    expected = own['prompt'] * (own['cols'][k] @ own['rows'][k])
    np.testing.assert_allclose(one.rows, expected, rtol=1e-5, atol=1e-6)
    assert one.record['method']['name'] == 'soft_prompt'
  assert [p.name for p in names.find(str(path), task='rte')] == ['rte']
  np.testing.assert_array_equal(names.rows(f'{path}:wic'), found[2].rows)


@pytest.mark.parametrize(
  'change,sentence',
  [
    ({'rows': np.ones((M, R + 1, 6))}, 'are not a shared prompt'),
    ({'cols': np.ones((M, P + 1, R))}, 'are not a shared prompt'),
    ({'prompt': np.ones(6)}, 'are not a shared prompt'),
    ({'more': np.ones(6)}, 'are not a shared prompt'),
  ],
)
def test_arrays_that_do_not_belong_together_are_refused(
  tmp_path, change, sentence
):
  change = {k: v.astype(np.float32) for k, v in change.items()}
  path = write(tmp_path / 'p.safetensors', arrays(6) | change)
  with pytest.raises(UserError, match=sentence):
    names.find(str(path))


def test_names_must_be_as_many_as_prompts(tmp_path):
  path = write(tmp_path / 'p.safetensors', arrays(6), tasks=TASKS[:2])
  with pytest.raises(UserError, match='holds 4 prompts, .* \\S*/cb, super'):
    names.find(str(path))


def said(model, task: int) -> np.ndarray:
  """PEFT's logits of the targets."""
  import torch

  config = model.config
  given = peft_adapters.given(config.vocab_size)
  rows = {k: torch.tensor(v).long() for k, v in given.items()}
  inputs, targets = rows['inputs'], rows['targets']
  task_ids = torch.full((len(inputs),), task)
  with torch.no_grad(), warnings.catch_warnings():
    warnings.simplefilter('ignore')
    if config.is_encoder_decoder:
      # Without labels PEFT hands the decoder nothing.
      return model(
        input_ids=inputs,
        attention_mask=torch.ones_like(inputs),
        labels=targets,
        task_ids=task_ids,
      ).logits.numpy()
    ids = torch.cat([inputs, targets], 1)
    logits = model(
      input_ids=ids, attention_mask=torch.ones_like(ids), task_ids=task_ids
    ).logits
    first = logits.shape[1] - targets.shape[1] - 1
    return logits[:, first:-1].numpy()


def compare(model, found, name: str) -> None:
  for task in range(M):
    expected = said(model, task)
    logits = peft_test.said(name, [found[task]])['logits']
    scale = np.abs(expected).max()
    assert np.abs(logits - expected).max() <= 1e-5 * scale
    other = peft_test.said(name, [found[task - 1]])['logits']
    assert np.abs(other - expected).max() > 1e-3 * scale


@pytest.mark.parametrize(
  'name', ['t5_1_0', pytest.param('gpt2', marks=pytest.mark.full)]
)
def test_peft_loads_what_is_written_and_would_write_the_same(
  name, theirs, tmp_path
):
  width = peft_test.loaded(name).config.d_model
  path = write(tmp_path / 'p.safetensors', arrays(width))
  c = config_lib.default()
  c.model = str(peft_test.MODELS[name])
  convert.run(c, names.find(str(path)), str(tmp_path / 'a'), form='peft')
  model = peft_adapters.network(peft_test.MODELS[name])
  model = theirs.PeftModel.from_pretrained(model, tmp_path / 'a')
  compare(model, names.find(str(path)), name)
  compare(model, names.find(str(tmp_path / 'a')), name)
  model.save_pretrained(tmp_path / 'b')
  both = [(tmp_path / x / peft.MODEL).read_bytes() for x in 'ab']
  assert both[0] == both[1]
  ours, other = (
    json.loads((tmp_path / x / peft.CONFIG).read_text()) for x in 'ab'
  )
  assert other.items() >= ours.items()


def test_the_decoders_half_of_a_t5_by_peft_is_refused(tmp_path):
  own = arrays(10)
  tensors = {multitask.TENSORS[k]: v for k, v in own.items()}
  safetensors.numpy.save_file(tensors, tmp_path / peft.MODEL)
  values = {
    'peft_type': multitask.KIND,
    'task_type': 'SEQ_2_SEQ_LM',
    'num_virtual_tokens': P,
    'num_ranks': R,
    'num_tasks': M,
  }

  def find(**changes):
    text = json.dumps(values | changes)
    (tmp_path / peft.CONFIG).write_text(text)
    return names.find(str(tmp_path))

  with pytest.raises(UserError, match='half of its rows are a prompt of the'):
    find()
  assert len(find(num_transformer_submodules=1)) == M
  with pytest.raises(UserError, match='3 virtual tokens, but .* says 4'):
    find(num_transformer_submodules=1, num_virtual_tokens=4)
