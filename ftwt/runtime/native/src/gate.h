/* Gates and linear layers: rows of live inputs, added up over vectors of outputs. */

/* Floats, and rows, between reading weights and asking for them. */
enum { FLOATS_AHEAD = 1024, ROWS_AHEAD = 16 };

/* Asks for what the row of place `j` of a list stands for. One sample's live rows are short, with gaps
 * between them that no processor foresees, and mostly come from far: reading all rows in order is
 * faster than leaving out some, unless these are most. */
INLINE void fetch_ahead(
    const int P, const float *rows, int64_t stride, const ftwt_live *live, int j, int in_order,
    const float **asked
) {
    if (in_order) {
        const float *const to = rows + live->list[j] * stride + FLOATS_AHEAD;
        for (; *asked < to; *asked += MOST_LANES) __builtin_prefetch(*asked);
    } else if (j + ROWS_AHEAD < live->count) {
        const float *row = rows + live->list[j + ROWS_AHEAD] * stride;
        for (int p = 0; p < P * LANES; p += MOST_LANES) __builtin_prefetch(row + p);
    }
}

/* to[0..OUTPUTS) = bias + sum over live inputs of x * row */
INLINE void add_rows_of(
    const int P, const float *rows, int64_t stride, const float *bias, const float *x,
    const ftwt_live *live, float *to
) {
    vec one[ROW_VECTORS], two[ROW_VECTORS];
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) one[p] = load(bias + p * LANES), two[p] = splat(0);
    const int span = live->count ? live->list[live->count - 1] - live->list[0] : 0;
    const int in_order = P * LANES == stride && live->count * 4 > span;
    const float *asked = rows;
    int j = 0;
    /* Few sums would wait for each other: then every second input has sums of its own. */
    for (; P < 8 && j + 1 < live->count; j += 2) {
        fetch_ahead(P, rows, stride, live, j + 1, in_order, &asked);
        const float *row1 = rows + live->list[j] * stride;
        const float *row2 = rows + live->list[j + 1] * stride;
        const float x1 = x[live->list[j]], x2 = x[live->list[j + 1]];
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) {
            one[p] += load(row1 + p * LANES) * x1;
            two[p] += load(row2 + p * LANES) * x2;
        }
    }
    for (; j < live->count; j++) {
        fetch_ahead(P, rows, stride, live, j, in_order, &asked);
        const float *row = rows + live->list[j] * stride;
        const float x1 = x[live->list[j]];
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) one[p] += load(row + p * LANES) * x1;
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) store(to + p * LANES, P < 8 ? one[p] + two[p] : one[p]);
}

/* One tile of `width` outputs, a multiple of LANES. */
static void add_tile(
    const float *tile, int width, const float *bias, const float *x, const ftwt_live *live,
    float *to
) {
    int o = 0;
    for (; o + ROW_VECTORS * LANES <= width; o += ROW_VECTORS * LANES)
        add_rows_of(ROW_VECTORS, tile + o, width, bias + o, x, live, to + o);
    for (; o + 2 * LANES <= width; o += 2 * LANES)
        add_rows_of(2, tile + o, width, bias + o, x, live, to + o);
    for (; o < width; o += LANES)
        add_rows_of(1, tile + o, width, bias + o, x, live, to + o);
}

/* As above for SHARING samples, whose inputs are `apart` floats apart, and sums TILE floats. */
INLINE void add_shared_of(
    const int P, const float *rows, int64_t stride, const float *x, int64_t apart,
    const ftwt_live *live, float *to
) {
    vec sum[SHARING][SHARED_VECTORS];
#pragma GCC unroll 4
    for (int s = 0; s < SHARING; s++)
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) sum[s][p] = load(to + s * TILE + p * LANES);
    for (int j = 0; j < live->count; j++) {
        const float *row = rows + live->list[j] * stride, *one = x + live->list[j];
        vec w[SHARED_VECTORS];
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) w[p] = load(row + p * LANES);
#pragma GCC unroll 4
        for (int s = 0; s < SHARING; s++)
#pragma GCC unroll 4
            for (int p = 0; p < P; p++) sum[s][p] += w[p] * one[s * apart];
    }
#pragma GCC unroll 4
    for (int s = 0; s < SHARING; s++)
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) store(to + s * TILE + p * LANES, sum[s][p]);
}

static void add_tile_shared(
    const float *tile, int width, const float *x, int64_t apart, const ftwt_live *live, float *to
) {
    int o = 0;
    for (; o + SHARED_VECTORS * LANES <= width; o += SHARED_VECTORS * LANES)
        add_shared_of(SHARED_VECTORS, tile + o, width, x, apart, live, to + o);
    for (; o + 2 * LANES <= width; o += 2 * LANES)
        add_shared_of(2, tile + o, width, x, apart, live, to + o);
    for (; o < width; o += LANES) add_shared_of(1, tile + o, width, x, apart, live, to + o);
}

static int tile_width(int64_t outputs, int first) {
    return outputs - first < TILE ? (int)(outputs - first) : TILE;
}

/* `count` outputs of all from `first` on: whole tiles, of which each has all inputs together. */
static void add_rows(
    const float *rows, int64_t inputs, int64_t outputs, const float *bias, const float *x,
    const ftwt_live *live, float *to, int first, int count
) {
    for (int o = first; o < first + count; o += TILE)
        add_tile(rows + o * inputs, tile_width(outputs, o), bias + o, x, live, to + o - first);
}

static void
gate_pool(ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to) {
    (void)scratch;
    int value = work->step->source[0];
    for (int64_t item = from; item < to; item++) {
        int sample = (int)(item / work->each), first = (int)(item % work->each) * POOL_CHANNELS;
        const ftwt_live *live = ftwt_live_in(plan, value, sample);
        for (int j = first; j < live->count && j < first + POOL_CHANNELS; j++)
            summarize(plan, work, work->step, sample, live->list[j],
                      ftwt_plane(plan, value, sample, live->list[j]));
    }
}

static void note_mask(
    const ftwt_plan *plan, const ftwt_work *work, int sample, int first, int count,
    const float *logits
) {
    uint8_t *flag = ftwt_live_of(plan, work->step->made, sample)->flag + first;
    for (int o = 0; o < count; o++) flag[o] = runs(logits[o], work->threshold);
}

/* Normalises `values`, of which the dead are zero, into `to`, which may be where they are; returns what
 * a dead one's zero becomes. */
static float normalize(int kind, const float *x, const ftwt_live *live, int values, float *to) {
    const int dead = values > live->count;
    for (int c = 0; c < values; c++) to[c] = live->flag[c] ? x[c] : 0;
    if (kind == NORM_NONE) return 0;
    if (kind == NORM_SOFTMAX) {
        const float max = max_over(to, values);
        vec sums = splat(0);
        int c = 0;
        for (; c + LANES <= values; c += LANES) {
            const vec e = exponential(load(to + c) - max);
            sums += e;
            store(to + c, e);
        }
        float sum = sum_of(sums);
        if (c < values) {
            store_some(to + c, exponential(load_some(to + c, values - c) - max), values - c);
            for (int i = c; i < values; i++) sum += to[i];
        }
        const float scale = 1.0f / sum;
        for (int i = 0; i < values; i++) to[i] *= scale;
        return dead ? exponential(splat(-max))[0] * scale : 0;
    }
    double sum = 0, squares = 0;
    for (int c = 0; c < values; c++) sum += to[c];
    const double mean = sum / values;
    for (int c = 0; c < values; c++) squares += (to[c] - mean) * (to[c] - mean);
    const float scale = (float)(1.0 / __builtin_sqrt(squares / values + 1e-5));
    for (int c = 0; c < values; c++) to[c] = (to[c] - (float)mean) * scale;
    return dead ? (float)-mean * scale : 0;
}

/* An item is a sample's range of ROW_OUTPUTS outputs; each normalises for itself. */
static void gate_decide(
    ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to
) {
    const ftwt_step *step = work->step;
    const int outputs = plan->program.set[step->made].width;
    const int inputs = plan->program.set[step->reads].width;
    const int64_t stride = (outputs + MOST_LANES - 1) / MOST_LANES * MOST_LANES;
    /* Each part of the scratch has room for `vectors` floats. */
    float *x = scratch->vector, *start = x + plan->scratch_vector;
    float *logits = start + plan->scratch_vector;
    int normalized = -1;
    for (int64_t item = from; item < to; item++) {
        int sample = (int)(item / work->each), first = (int)(item % work->each) * ROW_OUTPUTS;
        const ftwt_live *live = ftwt_live_of(plan, step->reads, sample);
        if (sample != normalized) {
            const float *pooled = work->pooled + (int64_t)sample * inputs;
            const float less = normalize(step->normalize, pooled, live, inputs, x);
            for (int o = 0; o < stride; o++) start[o] = step->bias[o] + less * step->rows[o];
            for (int c = 0; c < inputs; c++) x[c] -= less;
            normalized = sample;
        }
        int count = (int)(stride - first < ROW_OUTPUTS ? stride - first : ROW_OUTPUTS);
        add_rows(step->weight, inputs, stride, start, x, live, logits, first, count);
        if (count > outputs - first) count = outputs - first;
        note_mask(plan, work, sample, first, count, logits);
        ftwt_count(work->executed, sample, (int64_t)live->count * count);
    }
}

/* Parts the live inputs of some samples into those that all have, and each one's others. Unless all
 * have many, weights are better read once for each sample. */
static void part_inputs(const ftwt_plan *plan, const ftwt_work *work, int first, int many) {
    /* One after the other. */
    const ftwt_live *live = ftwt_live_of(plan, work->step->reads, first);
    ftwt_live *shared = &work->shared[first / SHARING];
    shared->count = 0;
    if (many == SHARING)
        for (int j = 0; j < live[0].count; j++) {
            const int channel = live[0].list[j];
            shared->list[shared->count] = channel;
            shared->count +=
                live[1].flag[channel] && live[2].flag[channel] && live[3].flag[channel];
        }
    if (shared->count < live[0].count / 4) shared->count = 0;
    for (int s = 0; s < many; s++) {
        ftwt_live *own = &work->own[first + s];
        own->count = 0;
        for (int j = 0, next = 0; j < live[s].count; j++) {
            const int channel = live[s].list[j];
            if (next < shared->count && shared->list[next] == channel)
                next++;
            else
                own->list[own->count++] = channel;
        }
    }
}

/* An item is SHARING samples. */
static void gate_normalize(
    ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to
) {
    (void)scratch;
    const int reads = work->step->reads, inputs = plan->program.set[reads].width;
    const int begin = (int)from * SHARING, batch = plan->program.batch;
    const int end = to * SHARING < batch ? (int)to * SHARING : batch;
    for (int sample = begin; sample < end; sample++) {
        const ftwt_live *live = ftwt_live_of(plan, reads, sample);
        float *x = work->pooled + (int64_t)sample * inputs;
        const float less = normalize(work->step->normalize, x, live, inputs, x);
        for (int c = 0; c < inputs; c++) x[c] -= less;
        work->less[sample] = less;
    }
    for (int sample = begin; sample < end; sample += SHARING)
        part_inputs(plan, work, sample, end - sample < SHARING ? end - sample : SHARING);
}

/* Nearly every row is live in one of `many` samples, but none of them goes row by row: each asks for
 * its share of what comes next. */
INLINE void fetch_share(const float *next, int64_t floats, int share, int many) {
    const int64_t end = floats * (share + 1) / many;
    for (int64_t at = floats * share / many; at < end; at += 16) __builtin_prefetch(next + at);
}

/* The inputs of a list from `place` on that come before `end` of all `inputs`; `place` moves behind
 * them. They are about as many as their share. */
static ftwt_live before(const ftwt_live *live, int end, int inputs, int *place) {
    const int begin = *place;
    int last = live->count;
    if (end < inputs) {
        last = (int)((int64_t)live->count * end / inputs);
        while (last < live->count && live->list[last] < end) last++;
        while (last > 0 && live->list[last - 1] >= end) last--;
    }
    *place = last;
    return (ftwt_live){.list = live->list + begin, .count = last - begin};
}

/* An item is a tile of outputs for a few samples, which share the weights in the first cache. */
static void gate_decide_many(
    ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to
) {
    (void)scratch;
    const ftwt_step *step = work->step;
    const int inputs = plan->program.set[step->reads].width;
    const int outputs = plan->program.set[step->made].width, batch = plan->program.batch;
    const int64_t stride = (outputs + MOST_LANES - 1) / MOST_LANES * MOST_LANES;
    const int64_t groups = (batch + work->group - 1) / work->group;
    float sums[MOST_GROUP][TILE] __attribute__((aligned(64)));
    for (int64_t item = from; item < to; item++) {
        const int first = (int)(item / groups) * TILE, width = tile_width(stride, first);
        const int begin = (int)(item % groups) * work->group;
        const int many = batch - begin < work->group ? batch - begin : work->group;
        const float *tile = step->weight + (int64_t)first * inputs;
        const float *x = work->pooled + (int64_t)begin * inputs;
        const ftwt_live *shared = work->shared + begin / SHARING, *own = work->own + begin;
        int shared_place[MOST_GROUP / SHARING] = {0}, own_place[MOST_GROUP] = {0};
        for (int s = 0; s < many; s++)
            for (int o = 0; o < width; o += LANES)
                store(sums[s] + o, load(step->bias + first + o) +
                                       work->less[begin + s] * load(step->rows + first + o));
        for (int end = TILE_INPUTS; end < inputs + TILE_INPUTS; end += TILE_INPUTS) {
            const int next = inputs - end < TILE_INPUTS ? inputs - end : TILE_INPUTS;
            for (int s = 0; s < many; s++) {
                fetch_share(tile + (int64_t)end * width, (int64_t)next * width, s, many);
                if (s % SHARING == 0) {
                    const ftwt_live some =
                        before(&shared[s / SHARING], end, inputs, &shared_place[s / SHARING]);
                    if (some.count)
                        add_tile_shared(tile, width, x + (int64_t)s * inputs, inputs, &some, sums[s]);
                }
                const ftwt_live some = before(&own[s], end, inputs, &own_place[s]);
                if (some.count)
                    add_tile(tile, width, sums[s], x + (int64_t)s * inputs, &some, sums[s]);
            }
        }
        const int count = outputs - first < width ? outputs - first : width;
        for (int s = 0; s < many; s++) {
            note_mask(plan, work, begin + s, first, count, sums[s]);
            ftwt_count(work->executed, begin + s,
                       (int64_t)(shared_place[s / SHARING] + own_place[s]) * count);
        }
    }
}

static void
linear(ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to) {
    const ftwt_step *step = work->step;
    const int outputs = plan->program.value[step->output].channels;
    const int64_t stride = (outputs + MOST_LANES - 1) / MOST_LANES * MOST_LANES;
    float *sums = scratch->vector;
    for (int64_t item = from; item < to; item++) {
        int sample = (int)(item / work->each), first = (int)(item % work->each) * ROW_OUTPUTS;
        const ftwt_live *live = ftwt_live_of(plan, step->reads, sample);
        int count = (int)(stride - first < ROW_OUTPUTS ? stride - first : ROW_OUTPUTS);
        add_rows(
            step->weight, plan->program.set[step->reads].width, stride, step->bias,
            ftwt_plane(plan, step->source[0], sample, 0), live, sums, first, count
        );
        for (int o = 0; o < count; o += LANES)
            store(sums + o, activate(load(sums + o), step->activation));
        if (count > outputs - first) count = outputs - first;
        memcpy(ftwt_plane(plan, step->output, sample, first), sums, (size_t)count * sizeof *sums);
        ftwt_count(work->executed, sample, (int64_t)live->count * count);
    }
}
