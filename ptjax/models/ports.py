"""The letters of all shapes, and the ports through which a model is tuned.

A port is a variable of the flax collection `ports` that a module reads if it is
there; the model is the frozen one where it is not. Owns names only: what stands
behind a port, and how it is trained, is not known here.

A linear map of I inputs and O features, one axis or several, reads

  scale_in    [I]           of what goes in
  lora_a      [I, R]        with lora_b a second map beside the kernel
  lora_b      [R, O]
  delta_bias  [O]           added to the bias, or a bias where there is none
  scale       [O]           of what comes out, bias included
  adapter_down, adapter_up [O, R], [R, O], with adapter_down_bias [R] and
              adapter_up_bias [O]: a bottleneck behind all that, added to it

and a norm that has a bias delta_bias. An embedding reads, beside PROMPT,

  input_down, input_up [D, F], [F, D]: a hidden layer, added to rows that are
              read (not those of what a decoder said, nor virtual tokens)

and an attention

  prefix_key    [H, K, P]   keys in front of its own, after rotary, for each row
  prefix_value  [H, P, K]   and their values

In layers all have an axis N in front. For which rows a prefix counts is told
beside it: T5 by a mask that is longer than its input, a decoder-only model by a
`Prefix`, as which this port is handed to it.

  B batch            D model width       V vocabulary
  L input length     H heads             N layers
  T target length    K head size         C choices
  P prompt length    F mlp width         S length attended to: J or T, and P
  J = P + L          M prompts in use    G heads that share a key head
  R rank
"""

import flax.linen as nn
import jax

COLLECTION = 'ports'

# Rows of virtual tokens, [P, D] or [B, P, D]: id V + i reads row i.
PROMPT = ('token_embedder', 'prompt')

# Ports of every attention that has a prefix.
PREFIX = ('prefix_key', 'prefix_value')

# The scope under which parameters and ports have that axis.
LAYERS = 'layers'


def read(module: nn.Module, name: str) -> jax.Array | None:
  """The port `name` of a module, None where nobody filled it."""
  if module.has_variable(COLLECTION, name):
    return module.get_variable(COLLECTION, name)
  return None
