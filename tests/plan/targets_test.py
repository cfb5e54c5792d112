"""What a target may be called, and what is said of others."""

import pytest

from ptjax.config import UserError
from ptjax.plan import targets


@pytest.mark.parametrize(
  'text,chips,devices,gib',
  [
    ('v5e:2x4', 8, 8, 16),
    ('v4:2x2x2', 8, 8, 32),
    ('v5p:2x2x1', 4, 4, 95),
    ('v6e:1x1', 1, 1, 32),
    ('tpu7x:2x2x1', 4, 8, 96),
  ],
)
def test_a_topology_says_how_many_chips(text, chips, devices, gib):
  target = targets.parse(text)
  assert (target.chips, target.devices) == (chips, devices)
  assert target.memory == target.held == gib * targets.GIB


def test_gpus_are_counted_and_jax_takes_three_quarters():
  assert targets.parse('h200').chips == 1
  target = targets.parse('h100:8')
  assert target.chips == target.devices == 8
  assert target.memory == 80e9
  assert target.held == 60e9


@pytest.mark.parametrize(
  'text,said',
  [
    ('v5', "did you mean 'v5"),
    ('b200:8', 'v4:2x2x2, v5e:2x4'),
    ('v5e', '2 numbers of chips, as in v5e:2x4'),
    ('v5e:8', '2 numbers of chips'),
    ('v4:2x4', '3 numbers of chips, as in v4:2x2x2'),
    ('v5e:0x4', '2 numbers'),
    ('h100:2x4', 'a number of chips, as in h100:8'),
    ('h100:0', 'a number of chips'),
    ('', 'a plan needs a target; it can be v4:2x2x2'),
  ],
)
def test_another_is_refused_with_what_there_is(text, said):
  with pytest.raises(UserError) as error:
    targets.parse(text)
  assert said in str(error.value)


def test_figures_are_in_operations_and_bytes_and_name_their_page():
  for kind, chip in targets.CHIPS.items():
    assert chip.source.startswith('https://') and kind in chip.source
    assert 1e14 < chip.peak < 1e16 and 5e11 < chip.bandwidth < 1e13
