"""LoRA and IA3 against PEFT: the same maps by default, the same logits."""

import os
from typing import Any

import jax
import numpy as np
import pytest
from goldens import causal_models, t5_models

from ptjax import config as config_lib
from ptjax import tree
from ptjax.methods import base
from ptjax.tuned import base as tuned_base
from ptjax.weights import load

pytestmark = pytest.mark.full  # torch and PEFT take seconds to import

# Our names -> transformers'.
NAMES = {
  'GPT2': {
    'layers/attention/query_key_value': 'transformer.h.{}.attn.c_attn',
    'layers/mlp/wi': 'transformer.h.{}.mlp.c_fc',
    'layers/mlp/wo': 'transformer.h.{}.mlp.c_proj',
  },
  'GPTNeoX': {
    'layers/attention/query_key_value': (
      'gpt_neox.layers.{}.attention.query_key_value'
    ),
    'layers/attention/out': 'gpt_neox.layers.{}.attention.dense',
    'layers/mlp/wo': 'gpt_neox.layers.{}.mlp.dense_4h_to_h',
  },
  'Llama': {
    'layers/attention/query': 'model.layers.{}.self_attn.q_proj',
    'layers/attention/key': 'model.layers.{}.self_attn.k_proj',
    'layers/attention/value': 'model.layers.{}.self_attn.v_proj',
    'layers/mlp/wo': 'model.layers.{}.mlp.down_proj',
  },
  'T5': {
    f'{side}/layers/{ours}/{name}': f'{side}.block.{{}}.layer.{place}.{short}'
    for side, ours, place in (
      ('encoder', 'attention', '0.SelfAttention'),
      ('decoder', 'self_attention', '0.SelfAttention'),
      ('decoder', 'cross_attention', '1.EncDecAttention'),
    )
    for name, short in (('query', 'q'), ('key', 'k'), ('value', 'v'))
  }
  | {
    'encoder/layers/mlp/wo': 'encoder.block.{}.layer.1.DenseReluDense.wo',
    'decoder/layers/mlp/wo': 'decoder.block.{}.layer.2.DenseReluDense.wo',
  },
}
GOLDENS = {
  'gpt2_untied': causal_models,
  'pythia': causal_models,
  'llama': causal_models,
  't5_1_1': t5_models,
}


def family(case: str) -> str:
  found = GOLDENS[case].CASES[case]
  return getattr(found, 'kind', 'T5')


def ours(tmp_path: Any, case: str, model: Any, **method: Any) -> Any:
  """(tuned model, params) of the same weights, saved before PEFT wraps them."""
  found = GOLDENS[case]
  found.save(model, found.CASES[case], tmp_path)
  loaded = load.load(str(tmp_path))
  c = config_lib.default()
  c.method.update(method)
  return tuned_base.make(loaded.model, base.make(c.method)), loaded.params


def begun(made: Any, params: Any) -> tuple[Any, Any]:
  """(tuned, frozen) at random values."""
  tuned, frozen = made.init(jax.random.key(0), params)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), tuned
  ), frozen


def unstacked(case: str, tuned: Any) -> dict[tuple[str, str], np.ndarray]:
  """{(transformers' name of a map, port): array of one layer}."""
  names, out = NAMES[family(case)], {}
  for name, leaf in tree.flatten(tuned).items():
    scope, _, port = name.partition('/')[2].rpartition('/')
    for layer, one in enumerate(np.asarray(leaf)):
      out[names[scope].format(layer), port] = one
  return out


def put(parameter: Any, array: np.ndarray) -> None:
  import torch

  with torch.no_grad():
    parameter.copy_(torch.tensor(array.reshape(parameter.shape)))


def compare(case: str, made: Any, tuned: Any, frozen: Any, model: Any) -> None:
  """Logits at every recorded position, of rows padded on either side."""
  import torch

  golden = GOLDENS[case]
  variables = made._variables(tuned, frozen)
  with torch.no_grad():
    if golden is t5_models:
      given = golden.inputs(golden._SIZES['vocab_size'])
      ids, mask, decoder = given['ids'], given['mask'], given['decoder_ids']
      logits = made.model.apply(variables, ids, mask, decoder)
      expected = model(
        input_ids=torch.tensor(ids).long(),
        attention_mask=torch.tensor(mask).long(),
        decoder_input_ids=torch.tensor(decoder).long(),
      ).logits.numpy()
    else:
      given = golden.inputs()
      ids, mask = given['ids'], given['mask']
      logits = np.asarray(made.model.apply(variables, ids, mask))[mask]
      positions = np.maximum(mask.cumsum(-1) - 1, 0)
      expected = model(
        input_ids=torch.tensor(ids).long(),
        attention_mask=torch.tensor(mask).long(),
        position_ids=torch.tensor(positions),
      ).logits.numpy()[mask]
  difference = np.abs(logits - expected).max() / np.abs(expected).max()
  print(f'\nrelative difference {case}: {difference:.1e}')
  assert difference <= 1e-5


def start(case: str, tmp_path: Any, settings: Any, **method: Any) -> Any:
  peft = pytest.importorskip('peft', reason='PEFT is not installed')
  os.environ['HF_HUB_OFFLINE'] = '1'
  golden = GOLDENS[case]
  model = golden.build(golden.CASES[case], golden.CASES[case].seed)
  made, params = ours(tmp_path, case, model, **method)
  tuned, frozen = begun(made, params)
  adapted = peft.get_peft_model(model, settings(peft)).eval()
  return made, tuned, frozen, adapted


def wrapped(model: Any, parameter: str) -> dict[str, Any]:
  """The layers that have this parameter of PEFT's, by transformers' name."""
  return {
    name.removeprefix('base_model.model.'): module
    for name, module in model.named_modules()
    if hasattr(module, parameter)
  }


def task_type(case: str) -> str:
  return 'SEQ_2_SEQ_LM' if GOLDENS[case] is t5_models else 'CAUSAL_LM'


@pytest.mark.parametrize('case', GOLDENS)
def test_lora_is_pefts(case, tmp_path):
  kind = task_type(case)
  made, tuned, frozen, model = start(
    case,
    tmp_path,
    lambda peft: peft.LoraConfig(task_type=kind, r=3, lora_alpha=5),
    name='lora',
    rank=3,
    alpha=5.0,
  )
  layers = wrapped(model, 'lora_A')
  arrays = unstacked(case, tuned)
  assert {name for name, _ in arrays} == set(layers)
  for name, module in layers.items():
    put(module.lora_A['default'].weight, arrays[name, 'lora_a'].T)
    b = arrays[name, 'lora_b']
    put(module.lora_B['default'].weight, b.reshape(len(b), -1).T)
  compare(case, made, tuned, frozen, model)


@pytest.mark.parametrize('case', GOLDENS)
def test_ia3_is_pefts(case, tmp_path):
  kind = task_type(case)
  made, tuned, frozen, model = start(
    case,
    tmp_path,
    lambda peft: peft.IA3Config(task_type=kind),
    name='ia3',
  )
  layers = wrapped(model, 'ia3_l')
  arrays = unstacked(case, tuned)
  assert {name for name, _ in arrays} == set(layers)
  for (name, port), array in arrays.items():
    module = layers[name]
    assert module.is_feedforward == (port == 'scale_in')
    put(module.ia3_l['default'], array)
  compare(case, made, tuned, frozen, model)
