"""The reader of `.bin` files: what torch writes, and what it must refuse."""

import inspect
import json
import pathlib
import pickle
import struct
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from goldens import t5_models

from ptjax.config import UserError
from ptjax.weights import hf, torch_bin
from weights import files

RECORDED = t5_models.FOLDER / 'lm_adapt_bin' / 'pytorch_model.bin'


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
  return tmp_path / 'pytorch_model.bin'


def storage(count: int = 24, dtype=np.float32, **changes) -> files.Storage:
  return files.Storage(np.arange(count).astype(dtype), '0', **changes)


def whole(source, name: str) -> np.ndarray:
  return source.read(name, 0, source.shapes[name][0])


def test_what_torch_wrote_is_read():
  """Recorded: a strided view, three names of one storage, an OrderedDict."""
  source = torch_bin.TorchBin(RECORDED)
  shared = whole(source, 'shared.weight')
  assert shared.shape == (61, 9) and shared.dtype == np.float32
  copy = whole(source, 'decoder.embed_tokens.weight')
  np.testing.assert_array_equal(shared, copy)
  name = 'encoder.block.0.layer.0.SelfAttention.q.weight'
  query = source._tensors[name]
  assert query.strides == (1, 12), 'the view is not strided: nothing is tested'
  values = whole(source, name)
  np.testing.assert_array_equal(values[3:7], source.read(name, 3, 7))
  assert len(np.unique(values)) == values.size


def test_torch_today_reads_the_same(path):
  torch = pytest.importorskip('torch', reason='torch is not installed')
  base = torch.arange(120, dtype=torch.float32)
  state = {
    'plain': base.view(10, 12),
    'turned': base.view(10, 12).T,
    'cube': base.view(2, 5, 12).permute(2, 0, 1),
    'part': base[7:37].view(5, 6)[1:4, ::2],
    'spread': base[:4].view(4, 1).expand(4, 5),
    'half': base.half(),
    'brain': base.view(12, 10).bfloat16(),
    'double': base.double(),
    'parameter': torch.nn.Parameter(base.view(40, 3)),
    'empty': torch.zeros(3, 0),
  }
  torch.save(state, path)
  source = torch_bin.TorchBin(path)
  assert set(source.shapes) == set(state)
  for name, expected in state.items():
    expected = expected.detach().double().numpy()
    found = whole(source, name).astype(np.float64)
    np.testing.assert_array_equal(found, expected, name)
    middle = source.read(name, 1, 3).astype(np.float64)
    np.testing.assert_array_equal(middle, expected[1:3], name)


@pytest.mark.parametrize(
  'dtype', (np.float32, np.float16, np.float64, ml_dtypes.bfloat16)
)
def test_types(path, dtype):
  expected = np.arange(6).astype(dtype).reshape(2, 3)
  files.write_bin(path, {'a': expected})
  found = whole(torch_bin.TorchBin(path), 'a')
  assert found.dtype == dtype
  np.testing.assert_array_equal(found, expected)


class Marker:
  """Pickles, by pickle itself, as a call that leaves a file behind."""

  def __init__(self, path: pathlib.Path):
    self.path = path

  def __reduce__(self):
    return pathlib.Path.touch, (self.path,)


def write_raw(path: pathlib.Path, program: bytes) -> None:
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', program)


def test_a_program_is_not_executed(path, tmp_path):
  mark = tmp_path / 'executed'
  program = pickle.dumps({'a': Marker(mark)})
  pickle.loads(program)
  assert mark.exists(), 'the program does nothing: nothing is tested'
  mark.unlink()
  write_raw(path, program)
  with pytest.raises(UserError, match='refused.*nothing was executed'):
    torch_bin.TorchBin(path)
  assert not mark.exists()


@pytest.mark.parametrize(
  'module,name',
  [
    ('os', 'system'),
    ('posix', 'system'),
    ('builtins', 'eval'),
    ('builtins', 'getattr'),
    ('subprocess', 'Popen'),
    ('torch', 'load'),
    ('torch', 'FloatStorage.__class__'),
    ('torch', 'Size'),
    ('torch._utils', '_rebuild_tensor_v3'),
    ('torch._utils', 'os'),
    ('torch.storage', '_load_from_bytes'),
    ('collections', 'OrderedDict.__init__'),
    ('collections', 'namedtuple'),
    ('numpy.core.multiarray', '_reconstruct'),
    ('copyreg', '_reconstructor'),
  ],
)
@pytest.mark.parametrize('where', ('called', 'looked up', 'inside', 'by stack'))
def test_any_other_name_is_refused_by_name(path, module, name, where):
  other = files.Global(module, name)
  if where == 'by stack':
    text = [s.encode() for s in (module, name)]
    strings = b''.join(b'\x8c' + bytes([len(s)]) + s for s in text)
    write_raw(path, b'\x80\x04}\x8c\x01a' + strings + b'\x93s.')
  else:
    call = files.Call(other, 'echo')
    inside = files.Call(files.REBUILD, storage(), 0, (2,), (1,), False, call)
    content = {'called': call, 'looked up': other, 'inside': inside}[where]
    files.write_program(path, {'a': content}, (storage(),))
  with pytest.raises(UserError) as caught:
    torch_bin.TorchBin(path)
  assert f'names {module}.{name},' in str(caught.value)


@pytest.mark.parametrize(
  'content',
  [
    files.tensor(storage(), (5, 5)),
    files.tensor(storage(), (24,), offset=1),
    files.tensor(storage(), (2,), (24,)),
    files.tensor(storage(), (2,), (-1,), offset=3),
    files.tensor(storage(), (-2,), (1,)),
    files.tensor(storage(), (2, 2), (1,)),
    files.tensor(storage(), (2,), offset=-1),
    files.tensor(storage(), (True,)),
    files.tensor(storage(size=99), (25,)),
    # Changing a tensor after it was checked.
    files.tensor(storage(), (2,), state={'offset': 10**6}),
    files.tensor(storage(), (2,), state=(None, {'offset': 10**6})),
    files.Call(files.Global('torch', 'FloatStorage'), 3),
    files.Call(files.REBUILD, 'a', 0, (2,), (1,)),
  ],
)
def test_a_tensor_never_leaves_its_storage(path, content):
  files.write_program(path, {'a': content}, (storage(),))
  with pytest.raises(UserError, match='list of tensors cannot be read'):
    torch_bin.TorchBin(path)


def test_a_state_on_our_functions_changes_nothing_for_the_next_file(path):
  rebuilt = files.Call(files.REBUILD, storage(), 0, (2,), (1,))
  trick = files.Call(
    files.Global('collections', 'OrderedDict'), state={'__call__': 1, 'x': 2}
  )
  files.write_program(path, {'a': rebuilt, 'b': trick}, (storage(),))
  with pytest.raises(UserError, match="'b' is no tensor"):
    torch_bin.TorchBin(path)
  files.write_bin(path, {'a': np.ones(2, np.float32)})
  assert whole(torch_bin.TorchBin(path), 'a').sum() == 2


@pytest.mark.parametrize('name', ('_rebuild_tensor_v2', '_rebuild_parameter'))
def test_a_state_of_our_functions_themselves_is_forgotten(path, name):
  """A program may set attributes of what it looks up; here, of a fresh one."""

  def state() -> list:
    own = [f for f in vars(torch_bin).values() if inspect.isfunction(f)]
    return [(f.__name__, f.__defaults__, dict(vars(f))) for f in own]

  before = state()
  function = b'ctorch._utils\n%s\n' % name.encode()
  slots = b'}X\x0c\x00\x00\x00__defaults__K\x07\x85s'
  attributes = b'}X\x01\x00\x00\x00xK\x07s'
  program = function + attributes + slots + b'\x86b'
  write_raw(path, b'\x80\x02}X\x01\x00\x00\x00a' + program + b's.')
  with pytest.raises(UserError, match="'a' is no tensor"):
    torch_bin.TorchBin(path)
  assert state() == before


@pytest.mark.parametrize(
  'content,words',
  [
    ([1, 2], 'holds a list'),
    ({'epoch': 3}, "'epoch' is no tensor"),
    ({3: files.tensor(storage(), (2,))}, 'a name of type int'),
    ({10**5000: 1}, 'a name of type int'),
  ],
)
def test_what_is_no_state_dict_is_refused(path, content, words):
  files.write_program(path, content, (storage(),))
  with pytest.raises(UserError, match=words):
    torch_bin.TorchBin(path)


@pytest.mark.parametrize('member', ('data.pkl', 'byteorder'))
def test_a_small_file_does_not_unfold_into_a_large_one(path, member):
  """64 MiB of zeros, deflated to 64 kiB: refused unread."""
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in (
      ('byteorder', b'little'),
      ('data.pkl', b'\x80\x02}.'),
    ):
      bomb = name == member
      archive.writestr(
        f'archive/{name}',
        bytes(1 << 26) if bomb else content,
        zipfile.ZIP_DEFLATED if bomb else zipfile.ZIP_STORED,
      )
  tracemalloc.start()
  with pytest.raises(UserError, match=f'archive/{member} is compressed'):
    torch_bin.TorchBin(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 1 << 20


def test_a_list_of_tensors_has_a_greatest_size(path, monkeypatch):
  write_raw(path, b'\x80\x02' + b'N0' * 500 + b'}.')
  assert torch_bin.TorchBin(path).shapes == {}
  monkeypatch.setattr(torch_bin, '_PROGRAM', 1000)
  with pytest.raises(
    UserError, match='data.pkl is compressed, encrypted or la'
  ):
    torch_bin.TorchBin(path)


@pytest.mark.parametrize(
  'put', (b'r\xff\xff\xff\x07', b'p134217727\n'), ids=('binary', 'text')
)
def test_a_place_out_of_all_proportion_is_refused(path, put):
  """The unpickler would make room for 2**28 of them: 2 GiB."""
  write_raw(path, b'\x80\x02}' + put + b'.')
  tracemalloc.start()
  with pytest.raises(UserError, match='list of tensors cannot be read'):
    torch_bin.TorchBin(path)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 1 << 20


def test_what_doubles_itself_is_not_spelt_out(path):
  """Tuples of one another, 2**60 in all, where words should be."""
  double = b'N' + b'2\x86' * 60
  for where in (
    b'(N%sX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ' % double,
    b'(X\x07\x00\x00\x00storagectorch\nFloatStorage\n%sX\x03\x00\x00\x00cpuK\x01tQ'
    % double,
  ):
    write_raw(path, b'\x80\x02}X\x01\x00\x00\x00a' + where + b's.')
    with pytest.raises(UserError, match='list of tensors cannot be read'):
      torch_bin.TorchBin(path)


@pytest.mark.parametrize(
  'member, offset, value',
  [
    ('data.pkl', 8, 1),  # flag: encrypted
    ('data.pkl', 8, 1 << 5),  # flag: patched data, which zipfile does not know
    ('data.pkl', 10, 99),  # method: AES
    ('0', 8, 1),
    ('0', 10, 99),
  ],
)
def test_encrypted_and_unknown_members_are_refused(path, member, offset, value):
  files.write_bin(path, {'a': np.ones(3, np.float32)})
  content = bytearray(path.read_bytes())
  # In the central directory, whose header of a file is 46 bytes long.
  name = content.rindex(
    b'archive/' + (b'data/0' if member == '0' else b'data.pkl')
  )
  content[name - 46 + offset] = value
  path.write_bytes(content)
  with pytest.raises(UserError, match='pytorch_model.bin: '):
    torch_bin.TorchBin(path)


def test_files_that_are_cut_compressed_or_foreign(path):
  files.write_bin(path, {'a': np.ones(999, np.float32)})
  path.write_bytes(path.read_bytes()[:-500])
  with pytest.raises(UserError, match='cut short'):
    torch_bin.TorchBin(path)
  path.write_bytes(b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.')
  with pytest.raises(UserError, match='zip format of torch 1.6'):
    torch_bin.TorchBin(path)
  content = {'a': files.tensor(storage(), (24,))}
  deflated = zipfile.ZIP_DEFLATED
  files.write_program(path, content, (storage(),), compression=deflated)
  with pytest.raises(UserError, match='byteorder is compressed'):
    torch_bin.TorchBin(path)
  files.write_program(path, content, (storage(),), packing=deflated)
  with pytest.raises(UserError, match='storage 0 is compressed'):
    torch_bin.TorchBin(path)
  files.write_program(path, content, (storage(),), byteorder=b'big')
  with pytest.raises(UserError, match='big-endian'):
    torch_bin.TorchBin(path)
  files.write_program(path, content)
  with pytest.raises(UserError, match='cannot be read'):
    torch_bin.TorchBin(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('readme', 'hello')
  with pytest.raises(UserError, match='not one that torch wrote'):
    torch_bin.TorchBin(path)


def test_whole_numbers_are_no_weights(path):
  """As in a safetensors file: a quantised model is not read as another one."""
  files.write_bin(path, {'a': np.arange(3)})
  with pytest.raises(
    UserError, match='a is of type int64; weights of type F64'
  ):
    torch_bin.TorchBin(path).read('a', 0, 3)


def test_only_the_rows_asked_for_are_read(path, monkeypatch):
  files.write_bin(path, {'a': np.arange(4000).reshape(400, 10) * 1.0})
  source = torch_bin.TorchBin(path)
  counts = []
  read = np.fromfile

  def counted(*args, **options):
    counts.append(options['count'])
    return read(*args, **options)

  monkeypatch.setattr(np, 'fromfile', counted)
  np.testing.assert_array_equal(
    source.read('a', 3, 5), np.arange(30, 50).reshape(2, 10)
  )
  assert counts == [20]


def test_safetensors_files_that_are_cut_or_foreign(tmp_path):
  path = tmp_path / 'model.safetensors'
  files.write_safetensors(path, {'a': np.ones((9, 9), np.float32)})
  good = path.read_bytes()
  for bad, words in (
    (good[:-8], 'ends before its last tensor does'),
    (good[:20], 'not a whole safetensors file'),
    (b'', 'not a whole safetensors file'),
    (good[:8] + b'x' + good[9:], 'header is not that of'),
    (good.replace(b'324', b'320'), 'not the bytes of its shape'),
    (good.replace(b'F32', b'I32'), 'is of type I32'),
  ):
    path.write_bytes(bad)
    with pytest.raises(UserError, match=words):
      hf.Safetensors(path).read('a', 0, 9)


ENTRY = {'dtype': 'F32', 'shape': [2, 2], 'data_offsets': [0, 16]}


@pytest.mark.parametrize(
  'changes',
  [
    {'shape': 4},
    {'shape': 'ab'},
    {'shape': [2.0, 2.0]},
    {'shape': [True, 4]},
    {'shape': [-2, -2]},
    {'shape': None},
    {'data_offsets': [0.0, 16.0]},
    {'data_offsets': [16, 0]},
    {'data_offsets': [-16, 0]},
    {'data_offsets': [0, 8, 16]},
    {'data_offsets': 16},
    {'dtype': []},
    {'dtype': None},
  ],
)
def test_a_safetensors_header_is_checked(tmp_path, changes):
  path = tmp_path / 'model.safetensors'
  for entry, fine in ((ENTRY, True), (ENTRY | changes, False)):
    text = json.dumps({'a': entry}).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + bytes(16))
    if fine:
      assert hf.Safetensors(path).read('a', 0, 2).shape == (2, 2)
    else:
      with pytest.raises(UserError, match='header is not that of'):
        hf.Safetensors(path)


@pytest.mark.parametrize('text', (b'[]', b'{"a": 1}', b'[' * 100_000))
def test_a_safetensors_header_is_an_object_of_entries(tmp_path, text):
  path = tmp_path / 'model.safetensors'
  path.write_bytes(struct.pack('<Q', len(text)) + text)
  with pytest.raises(UserError, match='header is not that of'):
    hf.Safetensors(path)


def test_an_index_is_checked(tmp_path):
  tensors = {f't{i}': np.full(3, i, np.float32) for i in range(5)}
  files.write_sharded(tmp_path, tensors, kind='safetensors', shards=2)
  source = hf.open_folder(tmp_path)
  for i in range(5):
    assert (source.read(f't{i}', 1, 2) == i).all()
  index = tmp_path / 'model.safetensors.index.json'
  good = index.read_text()
  for bad, words in (
    ('[]', 'not an index'),
    ('{"weight_map": {"t0": ["a"]}}', 'not an index'),
    ('[' * 100_000, 'not an index'),
    (good.replace('00001-of', '00007-of'), 'names model-00007.*fetch again'),
    (good.replace('"t0"', '"t9"'), 'promises t9 .of 1.'),
    (good.replace('model-00001', '../model-00001'), 'outside of its folder'),
  ):
    index.write_text(bad)
    with pytest.raises(UserError, match=words):
      hf.open_folder(tmp_path)


def test_the_index_decides_which_file_holds_a_tensor(tmp_path):
  """Each file also holds an old copy of what the index gives the other."""
  tensors = {f't{i}': np.full(3, i, np.float32) for i in range(2)}
  files.write_sharded(tmp_path, tensors, kind='safetensors', shards=2)
  for i in range(2):
    path = tmp_path / f'model-{i + 1:05}-of-00002.safetensors'
    old = {f't{1 - i}': np.full(3, 9, np.float32)}
    files.write_safetensors(path, {f't{i}': tensors[f't{i}'], **old})
  source = hf.open_folder(tmp_path)
  assert [source.read(f't{i}', 0, 1)[0] for i in range(2)] == [0, 1]
