"""What a configuration is made into, and what it is refused for."""

import pathlib

import pytest

from ptjax import config as config_lib
from ptjax import parts
from ptjax.config import UserError

GOLDENS = pathlib.Path(__file__).parent / 'goldens'


def test_a_decoder_only_model_is_told_that_it_cannot_be_tuned_yet():
  c = config_lib.default()
  c.model = str(GOLDENS / 'causal' / 'gpt2')
  with pytest.raises(UserError, match='is a decoder-only model'):
    parts.build(c)
