"""Tables and tensors as TensorRT-LLM and vLLM load them."""

import base64
import io
import zipfile

import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.export import serving, torch_file
from ptjax.export.prompt import Prompt
from ptjax.weights import torch_bin

ROWS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def prompt(name: str, rows: np.ndarray) -> Prompt:
  return Prompt(name, {'prompt': {'encoder': rows}}, {}, name)


def test_a_table_has_a_task_for_each_prompt_filled_up_behind(tmp_path):
  prompts = [prompt('cb', ROWS[:2]), prompt('rte', ROWS)]
  path = serving.write_table(tmp_path / 'new' / 'table.npy', prompts)
  table = np.load(path, allow_pickle=False)
  assert table.shape == (2, 3, 4) and table.dtype == np.float32
  np.testing.assert_array_equal(table[0], [*ROWS[:2], np.zeros(4)])
  np.testing.assert_array_equal(table[1], ROWS)
  assert serving.tasks(prompts) == '0 cb (2 virtual tokens), 1 rte (3)'
  with pytest.raises(UserError, match='not of one width: cb 4, x 3'):
    serving.write_table(path, [prompts[0], prompt('x', ROWS[:, :3])])
  np.testing.assert_array_equal(np.load(path), table)


@pytest.mark.parametrize('shape', [(1, 1), (3, 4), (257, 300)])
def test_a_tensor_is_what_torch_loads_with_weights_only(shape):
  torch = pytest.importorskip('torch', reason='torch is not installed')
  array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
  text = serving.base64_of(array.T.copy().T)  # whatever its strides
  file = io.BytesIO(base64.b64decode(text, validate=True))
  found = torch.load(file, weights_only=True, map_location='cpu')
  assert found.dtype == torch.float32 and found.shape == shape
  assert found.is_contiguous() and not found.requires_grad
  np.testing.assert_array_equal(found.numpy(), array)


def test_a_tensors_pickle_names_nothing_but_a_tensor(tmp_path):
  """By our own restricted reader, which runs no name it does not know."""
  path = serving.write_embeds(tmp_path / 'p.pt', prompt('cb', ROWS))
  with zipfile.ZipFile(path) as archive:
    program = archive.read('archive/data.pkl')
    assert archive.read('archive/byteorder') == b'little'
    members = {info.filename: info for info in archive.infolist()}
  reader = torch_bin._Unpickler(program, path, 'archive/', members)
  tensor = reader.load()
  assert tensor.shape == (3, 4) and tensor.strides == (4, 1)
  found = np.fromfile(path, '<f4', 12, offset=tensor.storage.offset)
  np.testing.assert_array_equal(found.reshape(3, 4), ROWS)


def test_the_same_rows_make_the_same_file(tmp_path):
  """Else a checksum of what is served would say nothing."""
  files = [torch_file.write(tmp_path / f'{i}.pt', ROWS) for i in range(2)]
  assert len({file.read_bytes() for file in files}) == 1
  with zipfile.ZipFile(files[0]) as archive:
    assert {info.date_time[0] for info in archive.infolist()} == {1980}


def test_a_tensor_is_named_as_one(tmp_path):
  with pytest.raises(UserError, match=r'are a .pt file.*--input=FILE'):
    serving.write_embeds(tmp_path / 'requests.jsonl', prompt('cb', ROWS))
