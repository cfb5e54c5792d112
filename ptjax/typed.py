"""Text -> a value of the type of another: what words behind --config=FILE: say.

Owns how the items of a tuple are told apart. Knows no key.
"""

import re
from typing import Any

_BOOLS = {'true': True, 'false': False, '1': True, '0': False}


def value(text: str, like: Any) -> Any:
  """`text` in the type of `like`; of a tuple, numbers and words.

  Raises:
    ValueError: it is none.
  """
  if isinstance(like, bool):
    if text.lower() not in _BOOLS:
      raise ValueError(text)
    return _BOOLS[text.lower()]
  if isinstance(like, tuple):
    return tuple(_number(item) for item in _items(text))
  return type(like)(text)


def _items(text: str) -> list[str]:
  """'(a, b(c,d))' -> ['a', 'b(c,d)']; quotes around an item are left out."""
  if text[:1] == '(' and _closes(text) == len(text) - 1:
    text = text[1:-1]
  items, depth = [''], 0
  for char in text:
    depth += (char in '({') - (char in ')}')
    if char == ',' and depth <= 0:
      items.append('')
    else:
      items[-1] += char
  items = [item.strip() for item in items]
  return [_QUOTED.sub(r'\2', item) for item in items if item]


_QUOTED = re.compile(r"""^(["'])(.*)\1$""")


def _closes(text: str) -> int:
  """Where the parenthesis closes that the text begins with."""
  depth = 0
  for i, char in enumerate(text):
    depth += (char == '(') - (char == ')')
    if not depth:
      return i
  return -1


def _number(text: str) -> int | float | str:
  for kind in (int, float):
    try:
      return kind(text)
    except ValueError:
      continue
  return text
