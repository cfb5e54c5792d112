"""SuperGLUE by prompt tuning, one prompt a task (Lester et al. 2021).

Without words: the embedded miniature of model and data, minutes on a laptop.
With a model's name, the paper's setting: 100 tokens, Adafactor at 0.3, 30,000
steps of 32, the best prompt on dev, its score on dev. T5-XXL: about 62 TPU-v3
chip-hours a prompt (paper, appendix A), 90.5 on average over tasks (Table 3).

  python -m ptjax.main --config=configs/superglue.py
  python -m ptjax.main --config=configs/superglue.py:task=boolq
  python -m ptjax.main --config=configs/superglue.py:task=boolq,members=5
  python -m ptjax.main --config=configs/superglue.py:model=FOLDER,data=FOLDER
  python -m ptjax.main --config=configs/superglue.py:model=google/t5-xl-lm-adapt

The word `members=5` trains five prompts of each task side by side and prints
the paper's Table 3: their average, the best, and their majority vote. The word
`preset=t5x` takes T5X's effective optimizer instead of the paper's.
"""

from ptjax import config as config_lib


def get_config(arg: str | None = None):
  """The run that the words after the colon name."""
  words = config_lib.words(arg)
  c = config_lib.default()
  c.model = words.pop('model', 'miniature')
  if c.model == 'miniature':
    config_lib.miniature(c, method=words.get('method.name', c.method.name))
  else:
    c.data = 'hub'
  config_lib.preset(c, words.pop('preset', 'paper'))
  if 'members' in words:
    words['population.seeds'] = words.pop('members')
  for key, text in words.items():
    config_lib.assign(c, key, text)
  return c
