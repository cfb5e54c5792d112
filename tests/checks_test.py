"""What no run can have is told by its key, its value and the way out."""

import pytest

from ptjax import checks
from ptjax import config as config_lib
from ptjax.config import UserError


def check(**changes):
  checks.check(config_lib.update(config_lib.default(), changes))


@pytest.mark.parametrize(
  'changes,sentence',
  [
    ({'train.in_flight': 0}, 'train.in_flight=0 must be at least 1'),
    ({'max_length': 0}, 'max_length=0 must be at least 1'),
    ({'shots': -1}, 'shots=-1 must be at least 0'),
    ({'train.costs': -2}, 'train.costs=-2 must be at least 0'),
    ({'train.accumulate': 5}, 'train.batch_size=32 is not a multiple of'),
    ({'train.dropout': 1.0}, r'train.dropout=1.0 must be in \[0, 1\)'),
    ({'train.loss': 'texts'}, "'texts' is not known, did you mean 'text'"),
    ({'buckets': (64, 0)}, 'must be lengths in pieces'),
    ({'top_k': 5}, 'top_k=5 does nothing with temperature=0.0; set temper'),
    ({'top_p': 0.9, 'beams': 2}, 'top_p=0.9 does nothing with temperature'),
    ({'length_penalty': 0.6}, 'length_penalty=0.6 does nothing with beams=1'),
    ({'method.init': 'text'}, 'method.init=text needs method.text'),
  ],
)
def test_what_cannot_be_is_told(changes, sentence):
  with pytest.raises(UserError, match=sentence):
    check(**changes)


@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'top_k': 5, 'top_p': 0.9, 'temperature': 0.7},
    {'top_k': 5, 'samples.query': 'a'},  # which are drawn
    {'length_penalty': 0.6, 'beams': 4},
    {'train.accumulate': 4, 'shots': 0},
  ],
)
def test_what_can_be_passes(changes):
  check(**changes)
