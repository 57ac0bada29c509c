/* Convolution of one input into each filter. */

/* Vectors between storing sums and finishing them. */
enum { DEPTHWISE_VECTORS = 32 };

/* Sums of `vectors` vectors of one laid out input, whose weights stay in registers if TAPS says how
 * many there are. */
INLINE void sum_taps(
    const ftwt_layout *layout, const int TAPS, const float *weight, float bias, const float *x,
    int vectors, float *result
) {
    const int taps = TAPS ? TAPS : layout->taps;
    const float *tap[MOST_TAPS];
    vec w[MOST_TAPS];
#pragma GCC unroll 9
    for (int t = 0; t < taps; t++) tap[t] = x + layout->shift[t], w[t] = splat(weight[t]);
    for (int at = 0; at < vectors * LANES; at += LANES) {
        vec even = splat(bias), odd = splat(0);
#pragma GCC unroll 9
        for (int t = 0; t < taps; t++)
            if (t % 2)
                odd += w[t] * load(tap[t] + at);
            else
                even += w[t] * load(tap[t] + at);
        store(result + at, even + odd);
    }
}

static void convolve_plane(
    const ftwt_layout *layout, const float *weight, float bias, int activation, const float *x,
    float *to, int64_t all
) {
    float result[DEPTHWISE_VECTORS * LANES] __attribute__((aligned(64)));
    for (int first = 0; first < layout->vectors; first += DEPTHWISE_VECTORS) {
        const int rest = layout->vectors - first;
        const int vectors = rest < DEPTHWISE_VECTORS ? rest : DEPTHWISE_VECTORS;
        if (layout->taps == 9)
            sum_taps(layout, 9, weight, bias, x + first * LANES, vectors, result);
        else
            sum_taps(layout, 0, weight, bias, x + first * LANES, vectors, result);
        finish(layout, activation, result, 1, vectors, first, &to, all);
    }
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
                convolve_plane(
                    layout, step->weight + (int64_t)filter * step->row, step->bias[filter],
                    step->activation, scratch->plane, plane, middle
                );
                ran++;
            } else {
                fill_run(plane, activate_one(step->bias[filter], step->activation), middle);
            }
            if (step->pool)
                pool_plane(&step->pooling, step->pool, plane, step->middle[0], step->middle[1],
                           result, out->height, out->width);
        }
        if (ran) ftwt_count(work, sample, ran * layout->taps * middle);
    }
}
