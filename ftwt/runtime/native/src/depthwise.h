/* Convolution of one input into each filter. */

static void constant_plane(float *to, float value, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = value;
}

static float activate_one(float x, int kind) {
    return activate(splat(x), kind)[0];
}

static void
depthwise(ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to) {
    const ftwt_step *step = work->step;
    const ftwt_layout *layout = work->layout;
    const ftwt_value *in = &plan->program.value[step->source[0]];
    const ftwt_value *out = &plan->program.value[step->output];
    const int many = (plan->program.set[step->made].width) / step->groups;
    const int64_t middle = (int64_t)step->middle[0] * step->middle[1];
    const int64_t chunks = (plan->program.set[step->made].width + CHUNK - 1) / CHUNK;
    for (int64_t item = from; item < to; item++) {
        int sample = (int)(item / chunks), first = (int)(item % chunks) * CHUNK, ran = 0;
        const ftwt_live *made = ftwt_live_of(plan, step->made, sample);
        const ftwt_live *live = ftwt_live_in(plan, step->source[0], sample);
        for (int j = first; j < made->count && j < first + CHUNK; j++) {
            int filter = made->list[j], channel = filter / many;
            float *result = ftwt_plane(plan, step->output, sample, filter);
            float *plane = step->pool ? scratch->plane + plan->scratch_plane : result;
            if (live->flag[channel]) {
                const float *x = ftwt_plane(plan, step->source[0], sample, channel);
                lay_out(layout, &step->window, x, in->height, in->width, scratch->plane);
                micro_work micro_work = {
                    .input = scratch->plane,
                    .order = plan->counting,
                    .channel = plan->counting,
                    .shift = layout->shift,
                    .inputs = 1,
                    .taps = layout->taps,
                    .weight = {step->weight + (int64_t)filter * layout->taps},
                    .bias = {step->bias[filter]},
                };
                make_panels(
                    layout, BEST_VECTORS, step->activation, &micro_work, 1, 0,
                    (layout->vectors + BEST_VECTORS - 1) / BEST_VECTORS, &plane
                );
                ran++;
            } else {
                constant_plane(plane, activate_one(step->bias[filter], step->activation), middle);
            }
            if (step->pool)
                pool_plane(&step->pooling, step->pool, plane, step->middle[0], step->middle[1],
                           result, out->height, out->width);
        }
        if (ran) ftwt_count(work, sample, ran * layout->taps * middle);
    }
}
