"""Span corruption loses nothing."""

import random

from ptjax.objectives import prefix_lm


def test_spans_put_back_give_the_text():
  rng = random.Random(0)
  for length in range(4, 60):
    ids = [rng.randrange(300, 600) for _ in range(length)]
    inputs, targets = prefix_lm.corrupt(rng, ids, first_sentinel=999)
    assert inputs[-1] == targets[-1] == prefix_lm.EOS
    spans, sentinel = {}, None
    for id in targets[:-1]:
      if id > 900:
        sentinel = id
        spans[id] = []
      else:
        spans[sentinel].append(id)
    whole = []
    for id in inputs[:-1]:
      whole += spans[id] if id > 900 else [id]
    assert whole == ids
