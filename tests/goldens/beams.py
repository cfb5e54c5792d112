"""Writes t5/*/beams.npz: what transformers' beam search answers by each T5.

  python -m tests.goldens.beams

Needs torch and transformers; the tests need neither. Those of the GPTs are
recorded with the rest of them, by the same settings.
"""

from typing import Any

import numpy as np

from tests.goldens import causal_models, t5_models

STEPS = 12
CASES = ('t5_1_0', 't5_1_1', 'flan_tied_unscaled')


def name(beams: tuple[int, float, bool]) -> str:
  return 'beams_{}_{}_{}'.format(*beams)


def searched(model: Any, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Answers behind the start token, with padding behind their end."""
  import torch

  found = {}
  for number, penalty, early in causal_models.BEAMS:
    # Without its cache, which takes the decoder to be as deep as the encoder.
    ids = model.generate(
      input_ids=torch.tensor(given['ids']).long(),
      attention_mask=torch.tensor(given['mask']).long(),
      max_new_tokens=STEPS,
      do_sample=False,
      use_cache=False,
      num_beams=number,
      length_penalty=penalty,
      early_stopping=early,
    ).numpy()[:, 1:]
    ids = np.pad(ids, ((0, 0), (0, STEPS - ids.shape[1])))
    # A padding of 0 counts as none there, and EOS is put in its place.
    ended = np.cumsum(ids == 1, axis=1) - (ids == 1) > 0
    key = name((number, penalty, early))
    found[key] = np.where(ended, 0, ids).astype(np.int32)
  return found


def main() -> None:
  for case in CASES:
    described = t5_models.CASES[case]
    model = t5_models.build(described, described.seed)
    given = t5_models.inputs(model.config.vocab_size)
    recorded = np.load(t5_models.FOLDER / case / 'golden.npz')['logits']
    today = t5_models.computed(model, given)['logits']
    np.testing.assert_allclose(today, recorded, rtol=1e-4, atol=1e-4)
    path = t5_models.FOLDER / case / 'beams.npz'
    np.savez_compressed(path, **searched(model, given))


if __name__ == '__main__':
  main()
