"""Text as values of a tuple; of other types in config_test."""

import pytest

from ptjax import typed


@pytest.mark.parametrize(
  'text,value',
  [
    ('(32,64)', (32, 64)),
    ('no,yes', ('no', 'yes')),
    ('(\'0:no complaint\', "1:yes")', ('0:no complaint', '1:yes')),
    ('(model/(a|b)/.*,prompt/.*)', ('model/(a|b)/.*', 'prompt/.*')),
    ('model/(a|b)', ('model/(a|b)',)),
    ('(a)|(b)', ('(a)|(b)',)),
    (r'(model/\d{1,2},b)', (r'model/\d{1,2}', 'b')),
    ('()', ()),
  ],
)
def test_a_tuple_keeps_the_parentheses_of_its_items(text, value):
  assert typed.value(text, ()) == value
