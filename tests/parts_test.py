"""What a configuration is made into, and what it is refused for."""

import json

import pytest
import tiny

from ptjax import config as config_lib
from ptjax import parts
from ptjax.config import UserError
from ptjax.predict import beam, sample


def config(model, **changes):
  return config_lib.update(
    config_lib.default(), {'model': str(model), **changes}
  )


def test_a_text_ends_with_the_one_of_several_ends_that_its_tokenizer_has(
  tmp_path, capsys
):
  folder = tiny.gpt_folder(tmp_path / 'gpt')
  path = folder / 'config.json'
  said = json.loads(path.read_text())
  path.write_text(json.dumps(said | {'eos_token_id': [7, 5]}))
  made = parts.build(config(folder))
  assert made.causal and made.tuned_model.model.config.eos_id == 5
  assert 'no padding token: id 5' in capsys.readouterr().out
  path.write_text(json.dumps(said | {'eos_token_id': 7}))
  with pytest.raises(UserError, match='ends with id 5, but the model with 7'):
    parts.build(config(folder))


def test_the_loss_of_whole_texts_is_for_decoder_only_models(tmp_path):
  folder = tiny.model_folder(tmp_path / 't5')
  with pytest.raises(UserError, match='train.loss=text is for decoder-only'):
    parts.build(config(folder, **{'train.loss': 'text'}))
  with pytest.raises(UserError, match="'texts'.*did you mean 'text'"):
    parts.build(config(folder, **{'train.loss': 'texts'}))


def test_a_templates_words_become_pieces_and_whole_texts_have_none(tmp_path):
  words = {
    'method.init': 'uniform',
    'method.template': '{2} the cat {input} {1}',
  }
  folder = tiny.gpt_folder(tmp_path / 'gpt')
  made = parts.build(config(folder, **words))
  ids = [made.tokenizer.encode(f' {word}') for word in ('the', 'cat')]
  assert [len(i) for i in ids] == [1, 1]
  places = made.tuned_model.method.places
  assert places.before == (None, None, ids[0][0], ids[1][0])
  assert made.config.method.template.endswith('{input} {1}')
  with pytest.raises(UserError, match=r'input too, behind which .*\{1\}'):
    parts.build(config(folder, **words, **{'train.loss': 'text'}))
  words['method.template'] = '{2} the cat'
  with pytest.raises(UserError, match='has no place for the input'):
    parts.build(config('nowhere', **words))


def test_beams_search_and_draw_nothing():
  found = parts.sampler(config('m', beams=3, length_penalty=0.5))
  assert found == beam.Beams(3, length_penalty=0.5)
  assert parts.sampler(config('m')) == sample.Greedy()
  with pytest.raises(UserError, match='beams=3 and temperature=0.5'):
    parts.sampler(config('m', beams=3, temperature=0.5))
  with pytest.raises(UserError, match='beams=0 must be at least 1'):
    parts.sampler(config('m', beams=0))
