/* Steps that work plane by plane. */

/* to = larger of or sum of both, for `count` columns and up to LANES - 1 more. */
static void pool_rows(float *to, const float *one, const float *two, int count, int kind) {
    for (int x = 0; x < count; x += LANES) {
        vec a = load(one + x), b = load(two + x);
        store(to + x, kind == POOL_MAX ? larger(a, b) : a + b);
    }
}

/* First the rows of a window into one, then its columns, then every stride-th of the results. */
static void pool_plane(
    const ftwt_window *window, int kind, const float *from, int height, int width, float *to,
    int out_height, int out_width
) {
    const int kh = window->kernel[0], kw = window->kernel[1], left = window->padding[1];
    const float share = 1.0f / (float)(kh * kw), none = kind == POOL_MAX ? -__builtin_inff() : 0;
    float rows[POOL_ROW + 2 * LANES], columns[POOL_ROW + 2 * LANES];
    const int reach = (out_width - 1) * window->stride[1] + 1, padded = reach + kw - 1;
    const int have = width < padded - left ? width : padded - left;
    for (int x = 0; x < padded + 2 * LANES; x++) rows[x] = none;
    for (int y = 0; y < out_height; y++, to += out_width) {
        int top = y * window->stride[0] - window->padding[0];
        int first = top < 0 ? 0 : top, end = top + kh > height ? height : top + kh;
        if (first >= end) {
            for (int x = 0; x < have; x++) rows[left + x] = none;
        } else {
            copy_run(rows + left, from + (int64_t)first * width, have);
            for (int i = first + 1; i < end; i++) {
                const float *row = from + (int64_t)i * width;
                int x = 0;
                for (; x + LANES <= have; x += LANES) {
                    vec a = load(rows + left + x), b = load(row + x);
                    store(rows + left + x, kind == POOL_MAX ? larger(b, a) : a + b);
                }
                if (x < have) {
                    vec a = load_some(rows + left + x, have - x), b = load_some(row + x, have - x);
                    store_some(
                        rows + left + x, kind == POOL_MAX ? larger(b, a) : a + b, have - x
                    );
                }
            }
        }
        const float *sums = rows;
        for (int k = 1; k < kw; k++) {
            pool_rows(columns, sums, rows + k, reach, kind);
            sums = columns;
        }
        copy_strided(to, sums, out_width, window->stride[1]);
        if (kind == POOL_MEAN)
            for (int x = 0; x < out_width; x++) to[x] *= share;
    }
}

static void add_plane(
    ftwt_plan *plan, const ftwt_step *step, int sample, int channel, float *to, int64_t size
) {
    const float *first = 0;
    int started = 0;
    for (int s = 0; s < step->sources; s++) {
        if (!ftwt_live_in(plan, step->source[s], sample)->flag[channel]) continue;
        const float *from = ftwt_plane(plan, step->source[s], sample, channel);
        if (!first) {
            first = from;
            continue;
        }
        const float *one = started ? to : first;
        int64_t i = 0;
        for (; i + LANES <= size; i += LANES) store(to + i, load(one + i) + load(from + i));
        for (; i < size; i++) to[i] = one[i] + from[i];
        started = 1;
    }
    if (!first)
        fill_run(to, 0, size);
    else if (!started)
        memcpy(to, first, (size_t)size * sizeof *to);
}

/* from null is a plane of zeros. */
static void affine_plane(
    const float *from, float *to, int64_t size, float scale, float shift, int kind
) {
    if (!from) {
        fill_run(to, activate_one(shift, kind), size);
        return;
    }
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES)
        store(to + i, activate(load(from + i) * scale + shift, kind));
    for (; i < size; i++) to[i] = activate_one(from[i] * scale + shift, kind);
}

static void multiply_plane(
    ftwt_plan *plan, const ftwt_step *step, int sample, int channel, float *to, int64_t size
) {
    for (int s = 0; s < 2; s++)
        if (!ftwt_live_in(plan, step->source[s], sample)->flag[channel]) {
            fill_run(to, 0, size);
            return;
        }
    const float *one = ftwt_plane(plan, step->source[0], sample, channel);
    const float *two = ftwt_plane(plan, step->source[1], sample, channel);
    const ftwt_value *second = &plan->program.value[step->source[1]];
    if (size > 1 && second->height * second->width == 1)
        for (int64_t i = 0; i < size; i++) to[i] = one[i] * two[0];
    else
        for (int64_t i = 0; i < size; i++) to[i] = one[i] * two[i];
}

/* Every stride-th row and column of a channel, or zeros. */
static void pick_plane(
    ftwt_plan *plan, const ftwt_step *step, int sample, int source, float *to
) {
    const ftwt_value *in = &plan->program.value[step->source[0]];
    const ftwt_value *out = &plan->program.value[step->output];
    if (source < 0 || !ftwt_live_in(plan, step->source[0], sample)->flag[source]) {
        fill_run(to, 0, (int64_t)out->height * out->width);
        return;
    }
    const float *from = ftwt_plane(plan, step->source[0], sample, source);
    const int down = step->window.stride[0], across = step->window.stride[1];
    if (down == 1 && across == 1) {
        copy_run(to, from, (int64_t)out->height * out->width);
        return;
    }
    for (int y = 0; y < out->height; y++)
        copy_strided(
            to + (int64_t)y * out->width, from + (int64_t)y * down * in->width, out->width, across
        );
}

static void make_plane(ftwt_plan *plan, const ftwt_step *step, int sample, int channel) {
    const ftwt_value *out = &plan->program.value[step->output];
    const ftwt_value *in = &plan->program.value[step->source[0]];
    const int64_t size = (int64_t)out->height * out->width;
    float *to = ftwt_plane(plan, step->output, sample, channel);
    switch (step->kind) {
    case STEP_ADD:
        add_plane(plan, step, sample, channel, to, size);
        if (step->activation) activate_run(to, to, size, step->activation);
        return;
    case STEP_MULTIPLY: multiply_plane(plan, step, sample, channel, to, size); return;
    case STEP_PICK: pick_plane(plan, step, sample, step->index[channel] - 1, to); return;
    case STEP_CONCAT: {
        int s = 0, at = channel;
        while (at >= plan->program.value[step->source[s]].channels)
            at -= plan->program.value[step->source[s++]].channels;
        if (ftwt_live_in(plan, step->source[s], sample)->flag[at])
            copy_run(to, ftwt_plane(plan, step->source[s], sample, at), size);
        else
            fill_run(to, 0, size);
        return;
    }
    default: break;
    }
    const float *from = ftwt_plane(plan, step->source[0], sample, channel);
    const int live = ftwt_live_in(plan, step->source[0], sample)->flag[channel];
    const int64_t in_size = (int64_t)in->height * in->width;
    if (step->kind == STEP_ACTIVATE) {
        if (live)
            activate_run(from, to, size, step->activation);
        else
            fill_run(to, activate_one(0, step->activation), size);
    } else if (step->kind == STEP_AFFINE) {
        affine_plane(
            live ? from : 0, to, size, step->rows[channel], step->bias[channel], step->activation
        );
    } else if (!live) {
        fill_run(to, 0, size);
    } else if (step->kind == STEP_MASK) {
        if (ftwt_live_of(plan, step->reads, sample)->flag[channel])
            copy_run(to, from, size);
        else
            fill_run(to, 0, size);
    } else if (step->pooling.kernel[0]) {
        pool_plane(
            &step->pooling, step->pool, from, in->height, in->width, to, out->height, out->width
        );
    } else {
        *to = mean_over(from, in_size);
    }
}

static void
planes(ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to) {
    (void)scratch;
    const ftwt_step *step = work->step;
    for (int64_t item = from; item < to; item++) {
        int sample = (int)(item / work->each), first = (int)(item % work->each) * CHUNK;
        const ftwt_live *made = ftwt_live_of(plan, step->made, sample);
        for (int j = first; j < made->count && j < first + CHUNK; j++) {
            make_plane(plan, step, sample, made->list[j]);
            summarize(plan, work, work->gate, sample, made->list[j],
                      ftwt_plane(plan, step->output, sample, made->list[j]));
        }
    }
}
