"""What Lester et al. (2021) report, to be printed beside a run of theirs.

Owns Table 3: five prompts of one frozen T5-XXL (LM-adapted, 100 tokens), each
score on dev and chosen on dev. Knows no run.
"""

# The frozen model's parameters by Table 4; a run's count may differ by little.
XXL_PARAMETERS = 11.135e9

# {task: {metric: (average, best, majority vote)}}, ×100.
TABLE_3 = {
  'boolq': {'accuracy': (91.1, 91.3, 91.7)},
  'cb': {
    'accuracy': (99.3, 100.0, 100.0),
    'mean_3class_f1': (99.0, 100.0, 100.0),
  },
  'copa': {'accuracy': (98.8, 100.0, 100.0)},
  'multirc': {'em': (65.7, 66.3, 67.1), 'f1a': (88.7, 89.0, 89.4)},
  'record': {'em': (92.7, 92.9, 93.2), 'f1': (93.4, 93.5, 93.9)},
  'rte': {'accuracy': (92.6, 93.5, 93.5)},
  'wic': {'accuracy': (76.2, 76.6, 77.4)},
  'wsc': {'accuracy': (95.8, 96.2, 96.2)},
  'all': {'score': (90.5, 91.0, 91.3)},
}


def table_3(
  task: str, metric: str, *, parameters: int
) -> tuple[float, float, float] | None:
  """(average, best, ensemble) of the paper, None for another model or task."""
  if abs(parameters / XXL_PARAMETERS - 1) > 0.01:
    return None
  return TABLE_3.get(task, {}).get(metric)
