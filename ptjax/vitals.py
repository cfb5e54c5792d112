"""A step's numbers on the host, of each member: what is broken, said, logged.

Knows no run and no file.
"""

from typing import Any

import numpy as np

from ptjax import step

Values = dict[str, list[float]]


def read(metrics: dict[str, Any]) -> Values:
  """{name: [E]}, and the loss as a perplexity; waits for the device.

  Perplexity is exp(loss), the loss being a mean in nats over the pieces that
  are to be said; a z-loss is in both.
  """
  out = {k: np.asarray(v, float).tolist() for k, v in metrics.items()}
  with np.errstate(over='ignore'):
    return out | {'perplexity': np.exp(out['loss']).tolist()}


def broken(values: Values) -> list[int]:
  """The members for whom something is not finite that must be."""
  rows = zip(*(values[k] for k in step.FINITE))
  return [i for i, row in enumerate(rows) if not np.isfinite(row).all()]


def said(values: Values, i: int) -> str:
  return ', '.join(f'{k} {values[k][i]:.4g}' for k in step.FINITE)


def scalars(values: Values) -> dict[str, float]:
  """For the log: one member's numbers, or their mean and each one's."""
  out = {}
  for name, each in values.items():
    finite = [value for value in each if np.isfinite(value)]
    out[name] = float(np.mean(finite)) if finite else each[0]
    if len(each) > 1:
      out |= {f'{name}/{i}': value for i, value in enumerate(each)}
  return out
