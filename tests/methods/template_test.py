"""Where virtual tokens stand: what a template says, and what it cannot."""

import re

import pytest

from ptjax.config import UserError
from ptjax.methods import template
from ptjax.methods.base import Places

N = None


def test_without_a_template_all_are_in_front():
  assert template.places('', length=3) == Places((N, N, N))
  assert template.places('  ', length=1) == Places((N,))


def test_a_template_says_what_is_before_the_input_and_behind_it():
  found = template.places('{2}{input} {1}{#58} { 2 }', length=9)
  assert found == Places((N, N), (N, 58, N, N))
  assert len(found) == 6 and found.virtual == 5
  assert template.places('{input} {1}', length=9) == Places((), (N,))


def test_words_become_the_ids_of_their_pieces():
  ids = {'is': [4], 'capital': [7, 8], '?': [58]}
  found = template.in_pieces('{1} capital {input} is ? {2}', ids.get)
  assert found == '{1} {#7} {#8} {input} {#4} {#58} {2}'
  assert template.in_pieces(found, ids.get) == found
  expected = Places((N, 7, 8), (4, 58, N, N))
  assert template.places(found, length=9) == expected
  assert template.in_pieces('', ids.get) == ''
  # Before ids are known a word has one place.
  assert len(template.places('{1} capital {input}', length=9)) == 2


@pytest.mark.parametrize(
  'text,sentence',
  [
    ('{3} ?', 'has no place for the input; write {input} once'),
    ('{3} input', 'has no place for the input'),
    ('{3} {input} {input}', 'has the input 2 times'),
    ('{input} ?', 'has no virtual token'),
    ('{0} {input}', '{0} is neither a number from 1'),
    ('{-1} {input}', '{-1} is neither'),
    ('{text} {input} {1}', '{text} is neither'),
    ('{3 {input}', '{3 is neither'),
    ('{3} {#x} {input}', '{#x} is neither'),
  ],
)
def test_what_a_template_cannot_say_is_told(text, sentence):
  with pytest.raises(UserError, match=re.escape(sentence)) as error:
    template.places(text, length=3)
  assert repr(text) in str(error.value)
