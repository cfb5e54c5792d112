"""What a configuration says of answers, and of what a member takes."""

import pytest
import tiny

from ptjax import assemble, memory, mesh, parts
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.predict import beam, sample


def config(**changes):
  return config_lib.update(config_lib.default(), changes)


def test_beams_search_and_draw_nothing():
  found = parts.sampler(config(beams=3, length_penalty=0.5))
  assert found == beam.Beams(3, length_penalty=0.5)
  assert parts.sampler(config()) == sample.Greedy()
  with pytest.raises(UserError, match='beams=3 and temperature=0.5'):
    parts.sampler(config(beams=3, temperature=0.5))
  with pytest.raises(UserError, match='beams=0 must be at least 1'):
    parts.sampler(config(beams=0))


@pytest.mark.parametrize('cut, rows', [('tensor', 16), ('fsdp', 2)])
def test_a_member_takes_its_part_of_rows_or_layers(cut, rows, tmp_path):
  t5 = tiny.changed(num_heads=8, d_ff=40, vocab_size=64)
  tiny.model_folder(tmp_path / 't5', t5)
  c = config(
    **{
      'model': str(tmp_path / 't5'),
      'method.length': 5,
      'train.batch_size': 32,
      'train.accumulate': 2,
      'mesh.data': 1,
      f'mesh.{cut}': 8,
    }
  )
  made = assemble.outlined(c, mesh.abstract(c, 8, platform='gpu'))
  assert made.member_bytes(length=24, target=4) == memory.member_bytes(
    t5,
    batch=rows,
    prompt=5,
    length=24,
    target=4,
    itemsize=2,
    remat='products',
    tensor=8 if cut == 'tensor' else 1,
  )
