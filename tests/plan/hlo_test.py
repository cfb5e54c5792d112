"""Collectives in a program's text, in loops and in what is called."""

from ptjax.plan import hlo

# The form of XLA's text, made up.
TEXT = """HloModule jit_step, entry_computation_layout={()->f32[]}

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(f32[] %x, f32[] %y)
}

%inside (p: bf16[4,8]) -> bf16[16,8] {
  ROOT %g = bf16[16,8]{1,0:T(8,128)} all-gather(bf16[4,8] %p), channel_id=7, \
metadata={op_name="jit(step)/layers/mlp/dot" source_line=3}
}

%later (p: bf16[4,8]) -> bf16[16,8] {
  ROOT %g = bf16[16,8]{1,0:T(8,128)} all-gather(bf16[4,8] %p), channel_id=7
}

%body (s: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %f = bf16[16,8] fusion(bf16[4,8] %q), kind=kCustom, calls=%inside
  %h = bf16[16,8] fusion(bf16[4,8] %q), kind=kCustom, calls=%later
  %r = (f32[4]{0}, f32[6]{0}) all-reduce(f32[4] %z, f32[6] %y), \
replica_groups={{0,1}}, to_apply=%add
}

%cond (s: (s32[], bf16[4,8])) -> pred[] {
  ROOT %lt = pred[] compare(s32[] %i, s32[] %n), direction=LT
}

%five (s: (s32[], bf16[4,8])) -> pred[] {
  %constant.5.clone = u32[]{:T(128)} constant(5)
  ROOT %lt.1 = pred[]{:T(512)} compare(%i, %constant.5.clone), direction=LT
}

ENTRY %main (a: bf16[4,8]) -> f32[] {
  %w = (s32[], bf16[4,8]) while((s32[], bf16[4,8]) %t), condition=%cond, \
body=%body, backend_config={"known_trip_count":{"n":"24"}}
  %d = (s32[], bf16[4,8]) while((s32[], bf16[4,8]) %u), condition=%cond, \
body=%body
  %c = (s32[], bf16[4,8]) while((s32[], bf16[4,8]) %u), condition=%five, \
body=%body
  %s = (f32[100], f32[100]) all-reduce-start(f32[100] %v), to_apply=%add
  %e = f32[100] all-reduce-done((f32[100], f32[100]) %s)
}
"""


def test_what_is_in_a_loop_is_sent_as_often_as_it_runs():
  found = hlo.summed(hlo.collectives(TEXT, loops=6))
  assert list(found) == ['all-gather', 'all-reduce']
  assert found['all-gather'] == hlo.Sent(1, 35, 35 * 16 * 8 * 2)
  assert found['all-reduce'] == hlo.Sent(2, 36, 35 * (4 + 6) * 4 + 100 * 4)


def test_a_place_says_where_it_comes_from():
  (gather,) = [x for x in hlo.collectives(TEXT) if x.kind == 'all-gather']
  assert gather.source == 'jit(step)/layers/mlp/dot'
  assert gather.shape.startswith('bf16[16,8]')
  assert gather.times == 30


def test_one_device_sends_nothing():
  alone = (
    'HloModule m\n\nENTRY %main (a: f32[]) -> f32[] {\n  ROOT %a = f32[]\n}'
  )
  assert hlo.summed(hlo.collectives(alone)) == {}


def test_a_kind_that_nobody_thought_of_is_named():
  text = TEXT.replace('all-gather(', 'ragged-all-to-all(')
  assert 'ragged-all-to-all' in hlo.summed(hlo.collectives(text))
