/* Convolution of live inputs into active filters. */

/* Where vector `vector` of a layout with `all` positions begins. */
static int64_t place_of(const ftwt_layout *layout, int vector, int64_t all) {
    return vector < layout->vectors ? layout->place[vector] : all;
}

/* Panels from..to of some filters, into planes of `all` positions. */
static void
make_panels(const ftwt_layout *layout, int panel, int activation, micro_work *micro_work,
            int filters, int from, int to, float *const *planes, int64_t all) {
    const int64_t end = place_of(layout, to * panel, all);
    float result[MOST_FILTERS * MOST_VECTORS * LANES] __attribute__((aligned(64)));
    const float *input = micro_work->input;
    micro_work->result = result;
    /* Results of consecutive positions need no sorting out, and two bounds are quickly kept. */
    const int direct = layout->kind == LAYOUT_PLAIN && activation <= ACT_RELU6;
    micro_work->low = activation == ACT_NONE ? -__builtin_inff() : 0;
    micro_work->high = activation == ACT_RELU6 ? 6 : __builtin_inff();
    for (int first = from * panel; first < to * panel && first < layout->vectors; first += panel) {
        int vectors = layout->vectors - first < panel ? layout->vectors - first : panel;
        micro_work->input = input + first * LANES;
        if (direct) {
            const int64_t left = all - (int64_t)(first + vectors - 1) * LANES;
            micro_work->last = left < LANES ? (int)left : LANES;
            for (int f = 0; f < filters; f++) micro_work->to[f] = planes[f] + first * LANES;
            run_micro(micro_work, filters, vectors);
            continue;
        }
        run_micro(micro_work, filters, vectors);
        finish(layout, activation, result, filters, vectors, first, planes, end);
    }
    micro_work->input = input;
}

/* What follows on planes that hold a block's sums: pooling, a depthwise convolution, means for a
 * gate. */
static void finish_block(
    ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, const ftwt_block *block,
    float *const *planes
) {
    const ftwt_step *step = work->step;
    const int shown = ftwt_shown(work);
    const ftwt_value *out = &plan->program.value[step->output];
    const int sample = block->sample;
    const int32_t *filters = ftwt_live_of(plan, step->made, sample)->list + block->first;
    for (int f = 0; f < block->filters; f++) {
        const int filter = filters[f];
        if (step->pool)
            pool_plane(
                &step->pooling, step->pool, planes[f], step->middle[0], step->middle[1],
                ftwt_plane(plan, step->output, sample, filter), out->height, out->width
            );
        if (work->then)
            depthwise_filter(plan, work, work->then, work->then_layout, scratch, sample, filter,
                             planes[f], 0, 1);
        else
            summarize(plan, work, work->gate, sample, filter,
                      ftwt_plane(plan, shown, sample, filter));
    }
    if (work->then)
        ftwt_count(work->then_executed, sample,
                   (int64_t)block->filters * work->then_layout->taps * work->then->middle[0] *
                       work->then->middle[1]);
}

#include "strips.h"

/* One piece of one block, from the sample's inputs as they are laid out at `packed`. `next` is the
 * block that comes after it. */
static void convolve_block(
    ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, const ftwt_block *block,
    const ftwt_block *next, int piece, const float *packed
) {
    const ftwt_step *step = work->step;
    const ftwt_layout *layout = work->layout;
    const ftwt_value *in = &plan->program.value[step->source[0]];
    const int64_t group_weights = (int64_t)(in->channels / step->groups) * layout->taps;
    const int64_t middle = (int64_t)step->middle[0] * step->middle[1];
    const int begin = (int)((int64_t)work->panels * piece / work->pieces);
    const int end = (int)((int64_t)work->panels * (piece + 1) / work->pieces);
    const int sample = block->sample;
    const ftwt_live *live = ftwt_live_in(plan, step->source[0], sample);
    const int32_t *filters = ftwt_live_of(plan, step->made, sample)->list + block->first;
    const int32_t *soon = ftwt_live_of(plan, step->made, next->sample)->list + next->first;
    micro_work micro_work = {
        .plane = layout->plane,
        .channel = live->list + block->first_input,
        .shift = layout->shift,
        .inputs = block->inputs,
        .taps = layout->taps,
        .inside = layout->inside[1] ? layout->inside : 0,
    };
    if (layout->kind == LAYOUT_PLAIN) {
        micro_work.input = ftwt_plane(plan, step->source[0], sample, 0);
        micro_work.order = micro_work.channel;
    } else {
        micro_work.input = packed + block->first_input * layout->plane;
        micro_work.order = plan->counting;
    }
    float *planes[MOST_FILTERS];
    for (int f = 0; f < block->filters; f++) {
        /* Channels are counted over all groups, weights within one. */
        micro_work.weight[f] =
            step->weight + (int64_t)filters[f] * step->row - block->group * group_weights;
        if (work->streams)
            micro_work.soon[f] = step->weight - next->group * group_weights +
                                 (int64_t)soon[f < next->filters ? f : 0] * step->row;
        micro_work.bias[f] = step->bias[filters[f]];
        if (work->then) ASK_FOR(work->then->weight + (int64_t)filters[f] * work->then->row);
        planes[f] = step->pool || work->then ? scratch->plane + plan->scratch_plane + f * middle
                                             : ftwt_plane(plan, ftwt_shown(work), sample, filters[f]);
    }
    if (layout->kind == LAYOUT_FEW) {
        micro_work.channel = work->few[sample].list;
        micro_work.inputs = work->few[sample].count;
        make_few(&micro_work, step, block->filters, planes);
    } else if (layout->kind == LAYOUT_TALL) {
        const tall_rows rows = whole_tall(layout, in->width);
        convolve_tall(plan, work, block, &rows, begin, end, packed, planes);
    } else
        make_panels(layout, work->panel, step->activation, &micro_work, block->filters, begin, end,
                    planes, middle);
    const int64_t first = place_of(layout, begin * work->panel, middle);
    const int64_t positions = place_of(layout, end * work->panel, middle) - first;
    for (int f = 0; work->sum && layout->kind != LAYOUT_TALL && f < block->filters; f++) {
        const float *other = added_plane(plan, work, sample, filters[f]);
        float *to = planes[f] + first;
        if (other)
            add_run(to, other + first, to, positions, work->sum->activation);
        else
            activate_run(to, to, positions, work->sum->activation);
    }
    if (work->pieces == 1) finish_block(plan, work, scratch, block, planes);
    for (int f = 0; f < block->filters && work->pieces > 1; f++)
        summarize_piece(plan, work, sample, filters[f], piece, planes[f] + first, positions);
    ftwt_count(work->executed, sample,
               (int64_t)block->filters * block->inputs * layout->taps * positions);
}

/* An item is a piece of a block; inputs of all samples are laid out already. */
static void
convolve(ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to) {
    for (int64_t item = from; item < to; item++) {
        const ftwt_block *some = &work->block[item / work->pieces];
        const int64_t place = item - (int64_t)some->run * work->pieces;
        const int32_t at = some->run + (int32_t)(place % some->run_blocks);
        const ftwt_block *block = &work->block[at];
        const ftwt_block *next = at + 1 < work->blocks ? block + 1 : block;
        convolve_block(plan, work, scratch, block, next, (int)(place / some->run_blocks),
                       work->packed + block->sample * plan->packed_sample);
    }
}

/* An item is a sample, whose inputs are laid out in this thread's own place, which stays in its
 * cache. */
static void convolve_samples(
    ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to
) {
    for (int sample = (int)from; sample < to; sample++) {
        const int first = plan->run[sample], last = plan->run[sample + 1];
        for (int piece = 0; work->sum && piece < work->pieces; piece++)
            pass_piece(plan, work, sample, 0, INT_MAX, piece);
        if (first == last) continue;
        pack_inputs(plan, work, sample, 0, plan->program.value[work->step->source[0]].channels,
                    scratch->packed);
        for (int piece = 0; piece < work->pieces; piece++)
            for (int i = first; i < last; i++) {
                const ftwt_block *block = &work->block[i];
                convolve_block(plan, work, scratch, block, i + 1 < last ? block + 1 : block, piece,
                               scratch->packed);
            }
    }
}
