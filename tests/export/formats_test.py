"""Prompts written for others are read back, and what cannot be is told."""

import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.export import formats, names
from ptjax.export.prompt import Prompt

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def prompts(*names_: str) -> list[Prompt]:
  return [
    Prompt(name, {'prompt': {'encoder': ROWS + i}}, {'step': 7}, name)
    for i, name in enumerate(names_)
  ]


@pytest.mark.parametrize('form,name', [('npy', 'p.npy'), ('t5x', 'folder')])
def test_one_prompt_comes_back(tmp_path, form, name):
  path = formats.write(prompts('cb'), str(tmp_path / name), form=form)
  np.testing.assert_array_equal(names.rows(str(tmp_path / name)), ROWS)
  if form == 't5x':
    assert 'checkpoint_7' in str(path)


def test_a_bank_comes_back(tmp_path):
  target = str(tmp_path / 'bank.safetensors')
  formats.write(prompts('cb', 'rte'), target, form='bank')
  found = names.find(target)
  assert [p.name for p in found] == ['cb', 'rte']
  np.testing.assert_array_equal(found[1].rows, ROWS + 1)


def test_what_a_format_cannot_hold_is_told(tmp_path):
  for form, name, sentence in (
    ('npz', 'p', "--format='npz' is not known, did you mean 'npy'"),
    ('npy', 'p.npy', 'holds one prompt, but --prompt names 2'),
    ('bank', 'p.npy', 'a bank is a .safetensors file'),
  ):
    with pytest.raises(UserError, match=sentence):
      formats.write(prompts('a', 'b'), str(tmp_path / name), form=form)
  assert not list(tmp_path.iterdir())
