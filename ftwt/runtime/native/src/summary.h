/* What a gate's pooling makes of a plane. */

static float max_over(const float *from, int64_t count) {
    if (count < LANES) {
        /* The first in place of what is not there. */
        const vec some = load_some(from, (int)count);
        ivec there = {0};
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) there[i] = i < count ? -1 : 0;
        return max_of(choose(there, some, splat(from[0])));
    }
    vec max = load(from);
    int64_t i = LANES;
    for (; i + LANES <= count; i += LANES) max = larger(load(from + i), max);
    /* The last vector begins early: a maximum may see a position twice. */
    return max_of(larger(load(from + count - LANES), max));
}

/* The standard deviation of these numbers themselves, about a mean that is known. */
static float deviation_over(const float *from, int64_t count, float mean) {
    vec squares = splat(0);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const vec off = load(from + i) - mean;
        squares += off * off;
    }
    float sum = sum_of(squares);
    for (; i < count; i++) sum += (from[i] - mean) * (from[i] - mean);
    return __builtin_sqrtf(sum / (float)count);
}

static float mean_over(const float *from, int64_t count) {
    vec one = splat(0), two = splat(0);
    int64_t i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES)
        one += load(from + i), two += load(from + i + LANES);
    for (; i + LANES <= count; i += LANES) one += load(from + i);
    float sum = sum_of(one + two);
    for (; i < count; i++) sum += from[i];
    return sum / (float)count;
}

/* Notes what `gate`, if any, is to know of a plane of its input. */
static void summarize(
    const ftwt_plan *plan, const ftwt_work *work, const ftwt_step *gate, int sample, int channel,
    const float *plane
) {
    if (!gate) return;
    const ftwt_value *in = &plan->program.value[gate->source[0]];
    const int64_t size = (int64_t)in->height * in->width;
    float *pooled = work->pooled + (int64_t)sample * plan->program.set[gate->reads].width + channel;
    *pooled = gate->pool == POOL_MAX ? max_over(plane, size) : mean_over(plane, size);
    if (gate->pool == POOL_MEAN_STD)
        pooled[in->channels] = deviation_over(plane, size, *pooled);
}
