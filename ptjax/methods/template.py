"""Where virtual tokens stand: `{3} {input} {3} ? {3}`.

Owns that language: a number in braces is so many virtual tokens, `{input}` the
input, and words between are anchors (Liu et al. 2021, §3): pieces that do not
train. Where a tokenizer is known, `in_pieces` puts `{#58}`, their ids, in the
place of words. Knows neither tokenizer nor network.
"""

import re
from collections.abc import Callable, Iterator, Sequence

from ptjax.config import UserError
from ptjax.methods.base import Places

_BRACES = re.compile(r'(\{[^{}]*\})')
_INPUT = '{input}'


def places(template: str, *, length: int) -> Places:
  """Where they stand; an empty template has `length` in front.

  Raises:
    UserError: no place for the input, or no virtual token.
  """
  if not template.strip():
    return Places((None,) * length)
  before, behind = (
    tuple(slot for part in side for slot in _slots(part, template))
    for side in _sides(template)
  )
  if None not in before + behind:
    raise _wrong(template, 'it has no virtual token, such as {3}')
  return Places(before, behind)


def in_pieces(template: str, encode: Callable[[str], Sequence[int]]) -> str:
  """The template with ids in the place of words.

  Args:
    encode: a word, as it stands behind a space -> its ids.
  """
  if not template.strip():
    return template
  return ' '.join(
    part
    if part.startswith('{')
    else ' '.join(f'{{#{i}}}' for word in part.split() for i in encode(word))
    for part in _parts(template)
  )


def _parts(template: str) -> list[str]:
  """What stands in braces, and the words between."""
  return [p.strip() for p in _BRACES.split(template) if p.strip()]


def _sides(template: str) -> tuple[list[str], list[str]]:
  """The parts in front of the input, and those behind it."""
  parts = _parts(template)
  count = parts.count(_INPUT)
  if count != 1:
    found = f'the input {count} times' if count else 'no place for the input'
    raise _wrong(template, f'it has {found}')
  at = parts.index(_INPUT)
  return parts[:at], parts[at + 1 :]


def _slots(part: str, template: str) -> Iterator[int | None]:
  if re.fullmatch(r'\{\s*[1-9]\d{0,4}\s*\}', part):
    yield from (None,) * int(part.strip('{} '))
  elif re.fullmatch(r'\{#\d{1,9}\}', part):
    yield int(part.strip('{#}'))
  elif '{' in part or '}' in part:
    raise _wrong(template, f'{part} is neither a number from 1 nor the input')
  else:
    yield from (0 for _ in part.split())  # in place of ids not yet known


def _wrong(template: str, why: str) -> UserError:
  return UserError(
    f'method.template={template!r}: {why}; write {_INPUT} once, virtual tokens '
    "as {3} and anchors as words, as in '{3} {input} {3} ? {3}'"
  )
