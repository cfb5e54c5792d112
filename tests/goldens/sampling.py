"""Writes sampling.npz: what transformers leaves to be drawn from.

  python -m tests.goldens.sampling

Needs torch and transformers; the tests need neither.
"""

import pathlib

import numpy as np

FILE = pathlib.Path(__file__).with_name('sampling.npz')

# temperature, top_k, top_p
SETTINGS = (
  (1.0, 0, 1.0),
  (0.7, 0, 1.0),
  (1.0, 5, 1.0),
  (2.5, 1, 1.0),
  (1.0, 100, 1.0),
  (1.0, 0, 0.9),
  (1.0, 0, 0.05),
  (0.5, 12, 0.6),
  (1.7, 20, 0.95),
)


def logits() -> np.ndarray:
  """Flat, usual and peaked rows, and one with equal values."""
  rng = np.random.default_rng(0)
  rows = rng.normal(size=(6, 50)) * np.array([0.1, 1, 3, 3, 8, 1])[:, None]
  rows[-1] = np.round(rows[-1])
  return rows.astype(np.float32)


def filtered(temperature: float, top_k: int, top_p: float) -> np.ndarray:
  """transformers' probabilities, by its own processors in generate's order."""
  import torch
  import transformers as hf

  processors = [hf.TemperatureLogitsWarper(temperature)]
  if top_k:
    processors.append(hf.TopKLogitsWarper(top_k))
  if top_p < 1:
    processors.append(hf.TopPLogitsWarper(top_p))
  out = torch.tensor(logits())
  for process in processors:
    out = process(None, out)
  return torch.softmax(out, -1).numpy()


if __name__ == '__main__':
  np.savez_compressed(FILE, probs=np.stack([filtered(*s) for s in SETTINGS]))
