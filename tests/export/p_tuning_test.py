"""What P-tuning came to, as PEFT's P_TUNING: both ways, against PEFT itself."""

import dataclasses
import json

import numpy as np
import pytest
from goldens import peft_adapters

from export import peft_test
from export.peft_test import assert_peft_takes, loaded, rows
from ptjax import prompted
from ptjax.config import UserError
from ptjax.export import formats, names, peft
from ptjax.export.prompt import Prompt

theirs = peft_test.theirs  # where PEFT is not installed, skips


def prompt(name: str, **method) -> Prompt:
  record = {'method': {'name': 'p_tuning', 'template': '', **method}}
  return Prompt('p', {'prompt': {'encoder': rows(name)}}, record, 'p')


def write(found: Prompt, folder, name: str) -> None:
  base = prompted.base(loaded(name))
  formats.write([found], str(folder), form='peft', base=base)


@pytest.mark.parametrize('encoder', ['lstm', 'mlp'])
@pytest.mark.parametrize('name', sorted(peft_adapters.MODELS))
def test_peft_loads_what_is_written_and_would_write_the_same(
  name, encoder, theirs, tmp_path
):
  found = prompt(name, encoder=encoder, hidden=7)
  write(found, tmp_path / 'ours', name)
  assert_peft_takes(found, name, theirs, tmp_path)


def test_a_file_says_by_what_it_was_made_and_comes_back(tmp_path):
  write(prompt('gpt2', encoder='lstm', hidden=7), tmp_path, 'gpt2')
  values = json.loads((tmp_path / peft.CONFIG).read_text())
  assert values['peft_type'] == 'P_TUNING'
  assert values['encoder_reparameterization_type'] == 'LSTM'
  assert values['encoder_hidden_size'] == 7
  np.testing.assert_array_equal(names.rows(str(tmp_path)), rows('gpt2'))


@pytest.mark.parametrize('form', ['peft', 'npy', 't5x', 'vllm', 'tensorrt_llm'])
def test_what_stands_around_an_input_does_not_go_to_others(form, tmp_path):
  found = prompt('gpt2', template='{2} {input} {2}')
  with pytest.raises(UserError, match=r'around its input \(\{2\} \{input\}'):
    formats.write([found], str(tmp_path / 'p.npy'), form=form)
  assert not list(tmp_path.iterdir())


def test_a_bank_keeps_the_template_and_prompts_of_two_do_not_mix(tmp_path):
  from ptjax.export import bank

  found = prompt('gpt2', template='{2} {input} {2}')
  path = tmp_path / 'b.safetensors'
  formats.write([found], str(path), form='bank')
  (again,) = names.find(str(path))
  assert again.record['method']['template'] == '{2} {input} {2}'
  other = dataclasses.replace(prompt('gpt2'), name='q', path='q')
  with pytest.raises(UserError, match='not of one template: p .*, q '):
    bank.same_model([found, other])
