"""Makes the embedded models: a T5 of 0.9 M parameters, or a GPT of 1 M.

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
  words = base.words(arg)
  c = base.default().unlock()
  c.mode = 'pretrain'
  c.pretrain = ConfigDict()
  c.pretrain.family = words.pop('family', 't5')  # t5 | gpt
  base.one_of('family', c.pretrain.family, tuple(FAMILIES))

  c.pretrain.chunk = 16_000  # documents generated at a time
  c.pretrain.held_out = 1500  # documents that the gates are measured on
  c.pretrain.eval_every = 250  # steps
  c.pretrain.lr = 4e-4  # AdamW's, at its highest
  c.pretrain.warmup = 100  # steps, of each phase
  c.pretrain.weight_decay = 0.01  # times the rate
  c.pretrain.clip = 1.0  # gradient norm

  c.pretrain.keep_every = 0  # steps between models kept on the way; 0 = none

  c.pretrain.begin = ''  # a model's folder to go on from; '' = from noise

  c.pretrain.model = ConfigDict()
  # A phase ends when each kind of held-out document in `gates` is continued
  # rightly so often, between `least` and `most` steps.
  c.pretrain.phases = ConfigDict()
  FAMILIES[c.pretrain.family](c.pretrain)
  for key, text in words.items():
    base.assign(c, key, text)
  return c.lock()


def _t5(p: ConfigDict) -> None:
  p.model.d_model = 128
  p.model.d_kv = 32
  p.model.d_ff = 256
  p.model.num_layers = 3
  p.model.num_decoder_layers = 1
  p.model.num_heads = 4

  p.lengths = (20, 28, 36, 44, 52)  # pieces; what is longer is dropped
  p.order = ('first', 'spans', 'narrow', 'wide', 'cool')
  p.phases.spans = _phase(200, 200)
  p.phases.first = _phase(250, 4000, judged=0.9, question=0.9)
  p.phases.narrow = _phase(
    250, 6000, verification=0.9, judged=0.9, question=0.9
  )
  p.phases.wide = _phase(
    1000,
    12_000,
    verification=0.95,
    consequence=0.95,
    pronouns=0.95,
  )
  p.phases.cool = _phase(800, 800)


def _gpt(p: ConfigDict) -> None:
  p.model.d_model = 128
  p.model.d_ff = 512
  p.model.num_layers = 4
  p.model.num_heads = 4
  p.model.max_positions = 512
  p.model.rotary_size = 16  # features of the 32 of a head

  p.lr = 7e-4
  p.text_weight = 0.03  # of a piece of the text; 1 is one of its continuation
  p.lengths = (24, 32, 42, 56)  # pieces; what is longer is dropped
  p.order = ('first', 'wide', 'cool')
  p.phases.first = _phase(250, 3000, content=0.9, detail=0.9)
  p.phases.wide = _phase(1000, 3500, content=0.97, detail=0.95, judged=0.9)
  p.phases.cool = _phase(600, 600)


FAMILIES = {'t5': _t5, 'gpt': _gpt}


def _phase(
  least: int, most: int, *, batch_size: int = 32, **gates: float
) -> ConfigDict:
  return ConfigDict(
    {'least': least, 'most': most, 'batch_size': batch_size, 'gates': gates}
  )
