"""All methods that train, on one model, data, metrics and budget: one table.

  python -m ptjax.main --config=configs/methods.py
  python -m ptjax.main --config=configs/methods.py:methods=lora+soft_prompt
  python -m ptjax.main --config=configs/methods.py:model=FOLDER,data=FOLDER

Score of each task on test, trained parameters, bytes of what is saved, the time
of a step and the memory that its program needs. Each method with its own
optimizer and rate (OPTIMIZERS in ptjax/config.py), all with the same batches,
steps and seed. Without words the embedded miniature, two tasks: about eight
minutes on two shared cores.
"""

from ptjax import config as config_lib

METHODS = (
  'soft_prompt',
  'p_tuning',
  'prefix_tuning',
  'lora',
  'ia3',
  'bitfit',
  'adapters',
  'input_tuning',
  'model_tuning',
)


def get_config(arg: str | None = None):
  """The runs that the words after the colon name."""
  words = config_lib.words(arg)
  c = config_lib.default()
  c.model = words.pop('model', 'miniature')
  if c.model == 'miniature':
    config_lib.miniature(c)
  else:
    c.data = 'hub'
  c.ablation.key = 'method.name'
  methods = words.pop('methods', '+'.join(METHODS)).split('+')
  for name in methods:
    config_lib.one_of('methods', name, METHODS)
  c.ablation.over = tuple(methods)
  c.task = 'cb+rte'
  c.train.costs = 20
  for key, text in words.items():
    config_lib.assign(c, key, text)
  return c
