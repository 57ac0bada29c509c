/* What a gate's pooling makes of a plane. */

/* The largest lane; no number if any of them is none. */
INLINE float max_in(vec v) {
    return no_numbers(v, v) ? __builtin_nanf("") : max_of(v);
}

/* No number if any of them is none. */
static float max_over(const float *from, int64_t count) {
    if (count < LANES) return max_in(keep_some(load_some(from, (int)count), (int)count, from[0]));
    /* The last vector begins early: a maximum may see a position twice. */
    const vec end = load(from + count - LANES);
    vec max = end;
    int none = 0;
    int64_t i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) {
        const vec one = load(from + i), two = load(from + i + LANES);
        none |= no_numbers(one, two);
        max = larger_number(max, larger_number(one, two));
    }
    const vec rest = load(from + (i + LANES <= count ? i : 0));
    none |= no_numbers(rest, end);
    return none ? __builtin_nanf("") : max_of(larger_number(max, rest));
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

/* Where the summary of a plane is noted for its gate. */
static float *summary_of(
    const ftwt_plan *plan, const ftwt_work *work, const ftwt_step *gate, int sample, int channel
) {
    return work->pooled + (int64_t)sample * plan->program.set[gate->reads].width + channel;
}

/* Notes what `gate`, if any, is to know of a plane of its input. */
static void summarize(
    const ftwt_plan *plan, const ftwt_work *work, const ftwt_step *gate, int sample, int channel,
    const float *plane
) {
    if (!gate) return;
    const ftwt_value *in = &plan->program.value[gate->source[0]];
    const int64_t size = (int64_t)in->height * in->width;
    float *pooled = summary_of(plan, work, gate, sample, channel);
    *pooled = gate->pool == POOL_MAX ? max_over(plane, size) : mean_over(plane, size);
    if (gate->pool == POOL_MEAN_STD)
        pooled[in->channels] = deviation_over(plane, size, *pooled);
}

/* The same of a piece of a plane, to be put together with the others when the gate is decided. */
static void summarize_piece(
    const ftwt_plan *plan, const ftwt_work *work, int sample, int channel, int piece,
    const float *from, int64_t count
) {
    const ftwt_step *gate = work->gate;
    if (!gate) return;
    const ftwt_value *in = &plan->program.value[gate->source[0]];
    const float share = (float)count / (float)((int64_t)in->height * in->width);
    work->part[((int64_t)piece * plan->program.batch + sample) * in->channels + channel] =
        gate->pool == POOL_MAX ? max_over(from, count) : mean_over(from, count) * share;
}

/* As `summarize`, of a plane that is the first `size` lanes of a vector: what has just been stored from only
 * some lanes of a register cannot be loaded again until it is in the cache. */
INLINE void summarize_lanes(
    const ftwt_plan *plan, const ftwt_work *work, const ftwt_step *gate, int sample, int channel,
    vec plane, int size
) {
    if (!gate) return;
    float *pooled = summary_of(plan, work, gate, sample, channel);
    if (gate->pool == POOL_MAX) {
        *pooled = max_in(keep_some(plane, size, plane[0]));
        return;
    }
    *pooled = sum_of(keep_some(plane, size, 0)) / (float)size;
    if (gate->pool != POOL_MEAN_STD) return;
    const vec off = keep_some(plane - *pooled, size, 0);
    pooled[plan->program.value[gate->source[0]].channels] =
        __builtin_sqrtf(sum_of(off * off) / (float)size);
}
