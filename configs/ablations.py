"""Figure 3 of Lester et al. (2021) in miniature: one setting, several values.

  python -m ptjax.main --config=configs/ablations.py:axis=length
  python -m ptjax.main --config=configs/ablations.py:axis=init
  python -m ptjax.main --config=configs/ablations.py:axis=model,models=A+B+C

Three seeds of each value side by side; without words prompt length on four
tasks, about ten minutes on two cores. `axis=model` compares frozen models of
one tokenizer: the steps of an adaptation (configs/pretrain.py keeps models
along its way by `pretrain.keep_every=1000`), or sizes (the keys under
`pretrain.model`). The paper's findings: length 20 is near 100 (3a), class
labels start best (3b), more adaptation helps (3d), size closes all gaps.
"""

from ptjax import config as config_lib

AXES = {
  'length': ('method.length', (1, 5, 20, 50)),
  'init': ('method.init', ('uniform', 'vocabulary', 'labels')),
  'model': ('model', ()),
}


def get_config(arg: str | None = None):
  """The runs that the words after the colon name."""
  words = config_lib.words(arg)
  c = config_lib.miniature(config_lib.default())
  axis = config_lib.one_of('axis', words.pop('axis', 'length'), tuple(AXES))
  c.ablation.key, c.ablation.over = AXES[axis]
  if 'models' in words:
    c.ablation.over = tuple(words.pop('models').split('+'))
  c.task = 'boolq+cb+rte+wic'
  c.population.seeds = 3
  for key, text in words.items():
    config_lib.assign(c, key, text)
  return c
