"""Every key of a run, its default and its unit.

Owns the one configuration, how the words after `--config=FILE:` change it, and
the sentence a user gets for a wrong one. Knows no model, task or file format.
"""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from ml_collections import ConfigDict

from ptjax import typed

# From most memory to least; see ptjax/models/stack.py.
REMAT = ('none', 'products', 'linear', 'full')
AUTO = 'auto'  # of remat and cpu: see ptjax/memory.py, ptjax/cpu.py


class UserError(ValueError):
  """A mistake of the user: one sentence, no traceback, exit code 2."""


def default() -> ConfigDict:
  """The paper's setting (Lester et al. 2021); locked, so that a typo raises."""
  c = ConfigDict()
  c.mode = 'train'  # see MODES in ptjax/main.py
  c.seed = 0  # of initialisation, data order and dropout
  c.deterministic = False  # on a GPU: the same bits at every run, slower
  c.compiled = 'auto'  # folder of compiled programs; auto = ~/.cache; '' = none

  # The frozen model.
  # miniature | miniature/gpt | folder | gs://BUCKET/FOLDER | hub name
  c.model = 'miniature'
  c.any_model = False  # use a prompt of another frozen model, and warn
  c.tokenizer = ''  # folder, gs:// or hub name; '' = the model's own
  c.dtype = 'auto'  # weights, products: float32 | bfloat16; auto: CPU float32
  # Kept as: dtype | int8, where linear maps of layers are rounded to eight bits
  # with a scale an output, half of bfloat16's memory.
  c.weights = 'dtype'
  # One CPU, float32. fast: large products by oneDNN and, where there is room, a
  # step's layers unrolled; compiled at every start | plain | auto: if 512 wide
  c.cpu = AUTO
  c.scan = True  # one compiled layer, looped, but see cpu; False unrolls
  # What the backward pass finds kept; the rest it computes again. From most
  # memory to least: none (nothing again) | products (of linear maps; weights of
  # attention) | linear (the first alone) | full (what goes into a layer alone);
  # auto: the first of the last three that there is room for, by an estimate.
  c.remat = AUTO

  # Devices, as data x fsdp x tensor; -1 = the rest of them. See ptjax/mesh.py.
  c.mesh = ConfigDict()
  c.mesh.data = -1  # parts of a batch; weights whole
  c.mesh.fsdp = 1  # parts of a batch and of the weights
  c.mesh.tensor = 1  # parts of each layer: divides its heads and widths

  # Several processes of one run: one a host, or one a GPU.
  c.distributed = ConfigDict()
  c.distributed.coordinator = ''  # HOST:PORT of process 0 | auto; '' = none
  c.distributed.processes = 0  # how many; 0 = JAX_NUM_PROCESSES
  c.distributed.process = -1  # which one this is; -1 = JAX_PROCESS_ID
  c.distributed.timeout = 120  # seconds to wait for the others

  # Tasks and data.
  c.task = 'superglue'  # a task, several joined by '+', or a suite's name
  # One run of all tasks together, each by its examples but at most so many, and
  # its name in front of its inputs; 0 = a run each. T5's: 2**19 = 524_288.
  c.mixture = 0
  c.data = 'miniature'  # miniature | folder, also gs:// | hub | hub:OWNER/NAME
  c.prefix = False  # the task's name in front of its input, as T5 had it
  c.shots = 0  # training examples kept, drawn by seed; 0 = all
  c.input_length = 512  # pieces, the longest input; what is over is cut
  c.target_length = 0  # pieces, the longest target; 0 = as long as needed
  c.buckets = ()  # padded input lengths; () = up to six by the data
  c.custom = ConfigDict()  # your own task: see configs/custom.py
  c.custom.name = ''  # how results call it
  c.custom.train = ''  # file (jsonl, json, csv, tsv, parquet) or hub data set
  c.custom.dev = ''  # the same for the set that chooses the prompt
  c.custom.test = ''  # the same for the set that is reported; '' = dev
  c.custom.template = ''  # input text with {field} names
  c.custom.target = ''  # field that holds the answer
  c.custom.labels = ()  # label words: of the values 0, 1, … or 'value:word'
  c.custom.metrics = ('accuracy',)  # names in ptjax/tasks/metrics.py

  # What trains.
  c.method = ConfigDict()
  # soft_prompt | p_tuning | prefix_tuning | model_tuning | lora | ia3 |
  # bitfit | adapters | input_tuning | multitask_prompt | hard_prompt | none
  c.method.name = 'soft_prompt'
  c.method.length = 100  # virtual tokens, or places of a prefix
  # labels | vocabulary | uniform | text | file; of prefix_tuning also zeros
  c.method.init = 'labels'
  # Of soft_prompt, p_tuning: '{3} {input} {3} ? {3}'; '' = length in front.
  c.method.template = ''
  c.method.low = -0.5  # of init=uniform
  c.method.high = 0.5  # of init=uniform
  c.method.population = 5000  # first vocabulary rows that are drawn from
  c.method.text = ''  # of init=text
  c.method.file = ''  # of init=file: .npy, prompt-tuning's own, a prompt here
  c.method.like = ''  # of init=file: of several prompts the one most like this
  c.method.instruction = ''  # of hard_prompt: text in front; '' = none
  c.method.demonstrations = 0  # of hard_prompt: training examples, by seed
  c.method.separator = '\n\n'  # of hard_prompt: between these and the input
  c.method.rank = 8  # of lora
  c.method.alpha = 16.0  # of lora: its maps are multiplied by alpha / rank
  c.method.bottleneck = 64  # of adapters: hidden features
  c.method.ranks = 1  # of multitask_prompt: of each task's own factor
  # Ends of names: of linear maps (lora, ia3, bitfit, adapters), of attentions
  # (prefix_tuning: attention, self_attention, cross_attention).
  c.method.targets = ()
  c.method.encoder = 'lstm'  # of p_tuning: lstm | mlp
  # Units of p_tuning's network and input_tuning's, 0 = by the width; of
  # prefix_tuning's mlp, 0 = no mlp.
  c.method.hidden = 0
  # Prompts trained side by side on one copy of the weights: seeds x lr x init.
  c.population = ConfigDict()
  c.population.seeds = 1  # members that differ in seed: seed, seed + 1, …
  c.population.lr = ()  # a learning rate each; () = optimizer.lr
  c.population.init = ()  # a start each; () = method.init
  c.population.memory = 0.0  # GiB of a device for a run; 0 = what it has
  c.ablation = ConfigDict()  # a run for each value; see configs/ablations.py
  c.ablation.key = ''  # a key of this file; '' = one run
  c.ablation.over = ()  # what it takes in turn
  c.ablation.inner_key = ''  # a second one, run at each value of the first
  c.ablation.inner_over = ()  # what that takes
  c.tune = ()  # regular expressions over parameter names; () = the method's

  c.optimizer = ConfigDict()
  c.optimizer.name = 'auto'  # adafactor | adamw; auto = the method's, as lr
  c.optimizer.lr = -1.0  # at its highest; -1 = the method's, see OPTIMIZERS
  c.optimizer.schedule = 'constant'  # constant | linear | cosine | rsqrt
  c.optimizer.warmup = 0  # steps from 0 to lr
  # A step, adafactor's not multiplied by lr; -1 = the method's.
  c.optimizer.weight_decay = -1.0
  c.optimizer.clip = 1.0  # adafactor: RMS of an update; adamw: gradient norm
  c.optimizer.decay_rate = 0.8  # adafactor: exponent of the second moment's
  c.optimizer.decay_offset = 0  # adafactor: its step 0; T5X: -1_100_000
  c.optimizer.beta1 = 0.9  # adamw
  c.optimizer.beta2 = 0.999  # adamw
  c.optimizer.epsilon = 1e-8  # adamw

  c.train = ConfigDict()
  c.train.steps = 30_000  # updates
  c.train.batch_size = 32  # examples an update
  c.train.accumulate = 1  # micro-batches an update: less memory, same result
  c.train.dropout = 0.0  # inside the frozen model; T5X's demos had 0.1
  c.train.loss = 'targets'  # targets | text: inputs too, decoder-only models
  c.train.z_loss = 0.0  # weight of log(Z)^2; T5X: 1e-4
  c.train.eval_every = 1000  # steps between evaluations on dev
  c.train.save_every = 1000  # steps between checkpoints
  c.train.log_every = 50  # steps between lines in metrics.jsonl
  c.train.patience = 0  # evaluations without a better one that end it; 0 = none
  c.train.in_flight = 8  # steps that may run ahead of the host
  c.train.costs = 0  # steps timed at the end, memory looked at; 0 = none

  c.eval = ConfigDict()
  c.eval.batch_size = 64  # examples
  c.eval.by = 'generate'  # what chooses the prompt: generate | rank
  c.eval.rank = True  # report rank classification too
  c.eval.normalise = False  # rank by log-probability a piece
  c.eval.split = 'dev'  # what is reported; the miniature reports test
  c.eval.untuned = 256  # dev examples the untuned model is scored on; 0 = none
  c.eval.submission = False  # write the leaderboard's files from test splits

  # predict.
  c.max_length = 64  # pieces generated at most
  c.temperature = 0.0  # 0 = greedy
  c.top_k = 0  # pieces kept; 0 = all
  c.top_p = 1.0  # probability kept
  c.beams = 1  # searched at once, also where answers are scored; 1 = greedy
  c.length_penalty = 1.0  # of beams; above 0, longer answers are favoured

  # What each prompt says to one input, beside its scores.
  c.samples = ConfigDict()
  c.samples.query = ''  # the input; '' = none
  c.samples.count = 3  # answers
  c.samples.temperature = 1.0  # all else as in predict

  c.neighbours = 5  # of --mode=inspect: pieces listed a virtual token

  # --mode=plan: what is not known without data, and what time costs.
  c.plan = ConfigDict()
  c.plan.members = ()  # prompts side by side, a plan each; () = population
  c.plan.remat = ()  # of REMAT, a plan each; () = remat
  c.plan.functions = ('train', 'decode', 'rank')  # compiled; () = none
  c.plan.targets = 32  # pieces of the longest target, if target_length is 0
  c.plan.choices = 4  # of a row, ranked or said
  c.plan.dev_examples = 3270  # scored at each evaluation; BoolQ's dev split
  c.plan.price = 0.0  # of a chip for an hour, in your currency; 0 = not said
  c.plan.low = 0.4  # share of a chip's peak that is reached at least
  c.plan.high = 0.6  # and at most
  c.plan.thorough = False  # let the compiler take all of its time

  c.profile = 0  # steps traced into the run's folder by jax.profiler; 0 = none
  c.wandb = ''  # project of Weights & Biases; '' = not used
  c.tensorboard = True  # event files beside metrics.jsonl
  return c.lock()


def miniature(c: ConfigDict, *, method: str = 'soft_prompt') -> ConfigDict:
  """The embedded model's own numbers; all else is as for a real one.

  Inputs are as long as its tasks have them, but a hard prompt's are longer.
  """
  c.method.length = 20
  c.method.bottleneck = 16
  c.method.separator = ' '  # its vocabulary has no words behind a newline
  c.optimizer.schedule = 'linear'
  c.train.steps, c.train.eval_every, c.train.save_every = 200, 50, 50
  if method != 'hard_prompt':
    c.input_length, c.buckets = 48, (32, 48)
  c.eval.split = 'test'  # chosen on dev, reported on test
  return c


# A method's optimizer, learning rate and weight decay: usual for models
# of hundreds of millions of parameters or more (a soft prompt's by Lester et
# al. 2021), and the rate for the embedded ones, tried on them.
OPTIMIZERS: dict[str, tuple[str, float, float, float]] = {
  'soft_prompt': ('adafactor', 0.3, 1e-5, 0.3),
  'p_tuning': ('adamw', 1e-3, 0.0, 3e-3),
  'prefix_tuning': ('adamw', 5e-3, 0.0, 3e-2),
  'model_tuning': ('adamw', 3e-4, 0.0, 5e-4),
  'lora': ('adamw', 1e-3, 0.0, 5e-3),
  'ia3': ('adamw', 8e-3, 0.0, 3e-2),
  'bitfit': ('adamw', 1e-3, 0.0, 1e-2),
  'adapters': ('adamw', 3e-4, 0.0, 3e-3),
  'multitask_prompt': ('adafactor', 0.3, 1e-5, 0.3),
  'input_tuning': ('adamw', 1e-3, 0.0, 1e-3),
}


def resolved(c: ConfigDict) -> ConfigDict:
  """A copy in which what hangs on the method is said in numbers."""
  c = c.copy_and_resolve_references()
  name, lr, decay, embedded = OPTIMIZERS.get(
    c.method.name, OPTIMIZERS['soft_prompt']
  )
  own = c.optimizer
  if own.name == 'auto':
    own.name = name
  if own.lr == -1:
    own.lr = embedded if c.model.partition('/')[0] == 'miniature' else lr
  if own.weight_decay == -1:
    own.weight_decay = decay
  return c


def update(c: ConfigDict, values: dict[str, Any]) -> ConfigDict:
  """Sets keys by their full names, such as 'train.steps'."""
  for key, value in values.items():
    known = flatten(c)
    if key not in known:
      raise unknown_key(c, key)
    try:
      c.update_from_flattened_dict({key: value})
    except (TypeError, ValueError):
      raise UserError(
        f'{key}={value!r} must be of the type of its default, {known[key]!r}'
      ) from None
  return c


PRESETS = ('paper', 't5x')


def preset(c: ConfigDict, name: str) -> ConfigDict:
  """The paper's setting, or what T5X really did under its name.

  `t5x`: Adafactor's decay counted from the frozen model's step 1,100,000 (so
  every update has a root mean square of the learning rate), uniform rows in
  [0, .5), batch 128, dropout inside the frozen model, z-loss.
  """
  if one_of('preset', name, PRESETS) == 't5x':
    c.optimizer.decay_offset = -1_100_000
    c.method.init, c.method.low, c.method.high = 'uniform', 0.0, 0.5
    c.train.batch_size, c.train.dropout, c.train.z_loss = 128, 0.1, 1e-4
  return c


def one_of(key: str, value: Any, valid: Sequence[Any]) -> Any:
  """`value` if it is valid, else a UserError that names the nearest."""
  if value in valid:
    return value
  raise UserError(
    f'{key}={value!r} is not known{nearest(value, valid)}; '
    f'it can be {", ".join(map(str, valid))}'
  )


def nearest(value: Any, valid: Iterable[Any]) -> str:
  """', did you mean …?' or nothing."""
  found = difflib.get_close_matches(str(value), [str(v) for v in valid], n=1)
  return f', did you mean {found[0]!r}?' if found else ''


def check_text(texts: Iterable[str], where: str = '') -> None:
  """Refuses what UTF-8 cannot say, and so no tokenizer reads.

  Args:
    where: what they are of, such as "row 3: 'inputs' "; it stands in front of
      what is around the mistake.
  """
  for text in texts:
    try:
      text.encode()
    except UnicodeEncodeError as error:
      shown = ascii(text[max(0, error.start - 20) :][:60])
      raise UserError(
        f'{where}{shown} holds half of a surrogate pair, which JSON can say '
        'but no text has; mend it'
      ) from None


def apply_words(c: ConfigDict, arg: str | None) -> ConfigDict:
  """Sets what follows the colon of `--config=FILE:key=value,key=value`.

  A comma inside parentheses belongs to its value. Values take the type of the
  key's default.
  """
  for key, text in words(arg).items():
    assign(c, key, text)
  return c


def words(arg: str | None) -> dict[str, str]:
  """'a=1,b=(2,3)' -> {'a': '1', 'b': '(2,3)'}."""
  parts, depth = [''], 0
  for char in arg or '':
    depth += (char == '(') - (char == ')')
    if char == ',' and not depth:
      parts.append('')
    else:
      parts[-1] += char
  out = {}
  for part in filter(None, map(str.strip, parts)):
    key, equals, value = part.partition('=')
    if not equals:
      raise UserError(
        f'--config=FILE:{arg}: {part!r} is not of the form key=value; a value '
        'with a comma in it is given by a flag, --config.KEY=VALUE'
      )
    out[key.strip()] = value.strip()
  return out


def assign(c: ConfigDict, key: str, text: str) -> None:
  """Sets one dotted key from text, in the type of its default."""
  node, name = c, key
  if '.' in key:
    head, name = key.rsplit('.', 1)
    for part in head.split('.'):
      node = node.get(part) if isinstance(node, ConfigDict) else None
  if not isinstance(node, ConfigDict) or name not in node:
    raise unknown_key(c, key)
  if isinstance(node[name], ConfigDict):
    inside = ', '.join(f'{key}.{k}' for k in node[name])
    raise UserError(f'{key} is a group; set one of its keys: {inside}')
  try:
    node[name] = typed.value(text, node[name])
  except ValueError:
    raise UserError(
      f'{key}={text!r} must be of the type of its default, {node[name]!r}'
    ) from None


def unknown_key(c: ConfigDict, key: str) -> UserError:
  keys = list(flatten(c))
  last = [k for k in keys if k.rsplit('.', 1)[-1] == key]
  hint = f', did you mean {last[0]!r}?' if last else nearest(key, keys)
  return UserError(
    f'the configuration has no key {key!r}{hint or "; see ptjax/config.py"}'
  )


def flatten(c: ConfigDict) -> dict[str, Any]:
  """{'train.steps': 30000, …}."""
  out = {}
  for key, value in c.items():
    if isinstance(value, ConfigDict):
      out.update({f'{key}.{k}': v for k, v in flatten(value).items()})
    else:
      out[key] = value
  return out
