"""How answers are found, by what the configuration says."""

import pytest

from ptjax import config as config_lib
from ptjax import parts
from ptjax.config import UserError
from ptjax.predict import beam, sample


def config(**changes):
  return config_lib.update(config_lib.default(), changes)


def test_beams_search_and_draw_nothing():
  found = parts.sampler(config(beams=3, length_penalty=0.5))
  assert found == beam.Beams(3, length_penalty=0.5)
  assert parts.sampler(config()) == sample.Greedy()
  with pytest.raises(UserError, match='beams=3 and temperature=0.5'):
    parts.sampler(config(beams=3, temperature=0.5))
  with pytest.raises(UserError, match='beams=0 must be at least 1'):
    parts.sampler(config(beams=0))
