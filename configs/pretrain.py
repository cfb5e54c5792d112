"""Makes a model like the embedded miniature: a T5 of 0.9 M parameters.

T5's span corruption, then continuing texts, the prefix-LM objective of Lester
et al. (2021, §3.1), narrow before wide. A short phase of questions comes before
both: from noise its gate opens after 1,000 steps, but behind span corruption it
was still shut after 2,400. The embedded model is what this file makes as it
stands: 13,000 steps, 40 minutes on two CPU cores that others shared.
Command: python -m ptjax.main --config=configs/pretrain.py --workdir=DIR
"""

from ml_collections import ConfigDict

from ptjax import config as base


def get_config(arg: str | None = None) -> ConfigDict:
  c = base.default().unlock()
  c.mode = 'pretrain'
  c.pretrain = ConfigDict()

  c.pretrain.model = ConfigDict()
  c.pretrain.model.d_model = 128
  c.pretrain.model.d_kv = 32
  c.pretrain.model.d_ff = 256
  c.pretrain.model.num_layers = 3
  c.pretrain.model.num_decoder_layers = 1
  c.pretrain.model.num_heads = 4

  c.pretrain.lengths = (20, 28, 36, 44, 52)  # pieces; what is longer is dropped
  c.pretrain.chunk = 16_000  # documents generated at a time
  c.pretrain.held_out = 1500  # documents that the gates are measured on
  c.pretrain.eval_every = 250  # steps
  c.pretrain.lr = 4e-4  # AdamW's, at its highest
  c.pretrain.warmup = 100  # steps, of each phase
  c.pretrain.weight_decay = 0.01  # times the rate
  c.pretrain.clip = 1.0  # gradient norm

  c.pretrain.keep_every = 0  # steps between models kept; a multiple of 250

  c.pretrain.begin = ''  # a model's folder to go on from; '' = from noise

  # A phase ends when each kind of held-out document in `gates` is continued
  # rightly so often, between `least` and `most` steps.
  c.pretrain.order = ('first', 'spans', 'narrow', 'wide', 'cool')
  c.pretrain.phases = ConfigDict()
  c.pretrain.phases.spans = _phase(200, 200)
  c.pretrain.phases.first = _phase(250, 4000, judged=0.9, question=0.9)
  c.pretrain.phases.narrow = _phase(
    250, 6000, verification=0.9, judged=0.9, question=0.9
  )
  c.pretrain.phases.wide = _phase(
    1000,
    12_000,
    verification=0.95,
    consequence=0.95,
    pronouns=0.95,
  )
  c.pretrain.phases.cool = _phase(800, 800)
  return base.apply_words(c, arg).lock()


def _phase(
  least: int, most: int, *, batch_size: int = 32, **gates: float
) -> ConfigDict:
  return ConfigDict(
    {'least': least, 'most': most, 'batch_size': batch_size, 'gates': gates}
  )
