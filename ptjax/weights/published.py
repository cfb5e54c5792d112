"""Sizes of published T5s, so that a plan of one needs no hub and no files.

Owns which names have which sizes. Knows no tensor; what loads weights reads
their own config.json and never this.
"""

from ptjax.models.t5 import T5Config

VOCAB = 32_128

# Raffel et al. 2020, and the sizes of 1.1 in T5X's gin files.
T5_1_1 = {
  'small': T5Config(VOCAB, 512, 64, 1024, 8, 8, 6),
  'base': T5Config(VOCAB, 768, 64, 2048, 12, 12, 12),
  'large': T5Config(VOCAB, 1024, 64, 2816, 24, 24, 16),
  'xl': T5Config(VOCAB, 2048, 64, 5120, 24, 24, 32),
  'xxl': T5Config(VOCAB, 4096, 64, 10240, 24, 24, 64),
}
# Those that have these sizes, whatever they were trained on.
_NAMES = ('google/t5-v1_1-{}', 'google/t5-{}-lm-adapt', 'google/flan-t5-{}')


def sizes(name: str) -> T5Config | None:
  """The network of a model on the hub; None where it is not carried here."""
  for size, config in T5_1_1.items():
    if name in (pattern.format(size) for pattern in _NAMES):
      return config
  return None
