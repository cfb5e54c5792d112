"""A small Twitter complaints in RAFT's own rows, made of the miniature's world.

Owns what a row is, under the field names and labels of the original files.
Test rows carry their labels here. Knows neither how a row becomes a model's
input nor how it is scored.
"""

import random

from ptjax.config import UserError
from ptjax.miniature import customers

SIZES = {'train': 200, 'dev': 100, 'test': 300}
LABELS = ('no complaint', 'complaint')  # of who is content, and who is not


def rows(split: str, *, size: int | None = None, seed: int = 0) -> list[dict]:
  """The rows of one split, no two alike, the same ones at every call."""
  if split not in SIZES:
    raise UserError(
      f'The miniature has no split {split!r}; it has {", ".join(SIZES)}.'
    )
  rng = random.Random(f'complaints/{split}/{seed}')
  made: dict[str, str] = {}
  while len(made) < (SIZES[split] if size is None else size):
    experience = customers.draw(rng, split)
    text = f'@{experience.service} ' + customers.say(rng, experience, long=True)
    made[text] = LABELS[not experience.content]
  return [
    {'Tweet text': text, 'Label': label, 'ID': i}
    for i, (text, label) in enumerate(made.items())
  ]
