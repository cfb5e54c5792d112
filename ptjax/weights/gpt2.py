"""GPT-2 as transformers names it: tensors, config, what to ignore.

Owns the names and orientation of GPT-2's tensors in Hugging Face files and the
meaning of its config.json, both ways. Knows no file format.
"""

from collections.abc import Mapping
from typing import Any

from ptjax.models import gpt2
from ptjax.weights import causal, settings, table

NETWORK = gpt2.GPT2
HEAD = 'lm_head.weight'
BODY = 'transformer.'

# The causal mask, which old files carry.
SUPERFLUOUS = r'h\.\d+\.attn\.(bias|masked_bias)'

_SIZES = ('vocab_size', 'n_positions', 'n_embd', 'n_layer', 'n_head')

_IGNORED = (
  'attn_pdrop',
  'embd_pdrop',
  'reorder_and_upcast_attn',  # in float32 it is the same, and ours is
  'resid_pdrop',
  'summary_activation',
  'summary_first_dropout',
  'summary_proj_to_labels',
  'summary_type',
  'summary_use_proj',
)

_DEFAULTS = {
  'scale_attn_by_inverse_layer_idx': (False,),
  'scale_attn_weights': (True,),
}


def config(
  values: Mapping[str, Any], *, tied: bool, where: str
) -> gpt2.GPT2Config:
  """The network a config.json describes; `tied` is what the tensors say."""
  values = dict(values)
  sizes = settings.sizes(values, _SIZES, kind='GPT-2', where=where)
  width, heads = sizes['n_embd'], sizes['n_head']
  said = settings.Said(values, where)
  result = gpt2.GPT2Config(
    vocab_size=sizes['vocab_size'],
    d_model=width,
    d_ff=said.whole('n_inner', 4 * width),
    num_layers=sizes['n_layer'],
    num_heads=heads,
    head_size=causal.head_size(width, heads, where=where),
    max_positions=sizes['n_positions'],
    norm_epsilon=said.number('layer_norm_epsilon', 1e-5),
    activation=causal.activation(said, 'activation_function', 'gelu_new'),
    tied=tied,
    **causal.ids(said, eos_id=50256, last=sizes['vocab_size'] - 1),
  )
  causal.refuse_unknown(
    values, ignored=_IGNORED, defaults=_DEFAULTS, kind='GPT-2', where=where
  )
  return result


def to_json(config: gpt2.GPT2Config, *, dtype: str) -> dict[str, Any]:
  """A config.json that transformers 4 and 5 read as this network."""
  return {
    'architectures': ['GPT2LMHeadModel'],
    'model_type': 'gpt2',
    'vocab_size': config.vocab_size,
    'n_positions': config.max_positions,
    'n_embd': config.d_model,
    'n_inner': config.d_ff,
    'n_layer': config.num_layers,
    'n_head': config.num_heads,
    'activation_function': config.activation,
    'layer_norm_epsilon': config.norm_epsilon,
    'tie_word_embeddings': config.tied,
    'bos_token_id': config.eos_id,
    'eos_token_id': config.eos_id,
    'pad_token_id': config.pad_id,
    'torch_dtype': dtype,
  }


def canonical(source: table.Source, *, where: str) -> tuple[table.Source, bool]:
  """The tensors that count, by canonical names; and if the head is tied."""
  return causal.canonical(
    source,
    body=BODY,
    embedding='wte.weight',
    head=HEAD,
    superfluous=SUPERFLUOUS,
  )


def tensors(config: gpt2.GPT2Config) -> list[table.Tensor]:
  """Every tensor of the network; linear maps lie as [inputs, outputs]."""
  V, D, F = config.vocab_size, config.d_model, config.d_ff
  N, heads, P = config.num_layers, config.num_heads, config.max_positions
  block, own = f'{BODY}h.{{}}', 'layers'
  parts = (3, heads, config.head_size)
  rows = [
    table.Tensor('token_embedder/embedding', f'{BODY}wte.weight', (V, D)),
    table.Tensor('position_embedder/embedding', f'{BODY}wpe.weight', (P, D)),
  ]
  rows += causal.norm(f'{own}/pre_attention_norm', f'{block}.ln_1', D, N)
  rows += causal.norm(f'{own}/pre_mlp_norm', f'{block}.ln_2', D, N)
  rows += causal.norm('norm', f'{BODY}ln_f', D)
  for path, name, sizes, features in (
    ('attention/query_key_value', 'attn.c_attn', (D, 3 * D), parts),
    ('attention/out', 'attn.c_proj', (D, D), ()),
    ('mlp/wi', 'mlp.c_fc', (D, F), ()),
    ('mlp/wo', 'mlp.c_proj', (F, D), ()),
  ):
    rows += causal.linear(
      f'{own}/{path}',
      f'{block}.{name}',
      sizes,
      N,
      features=features,
      transpose=False,
    )
  if not config.tied:
    rows += [table.Tensor('unembedder/kernel', HEAD, (V, D), transpose=True)]
  return rows
