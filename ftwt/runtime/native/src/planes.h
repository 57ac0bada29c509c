/* Steps that work plane by plane. */

static void pool_plane(
    const ftwt_window *window, int kind, const float *from, int height, int width, float *to,
    int out_height, int out_width
) {
    const int kh = window->kernel[0], kw = window->kernel[1];
    const float share = 1.0f / (float)(kh * kw);
    for (int y = 0; y < out_height; y++) {
        int top = y * window->stride[0] - window->padding[0];
        int y0 = top < 0 ? 0 : top, y1 = top + kh > height ? height : top + kh;
        for (int x = 0; x < out_width; x++) {
            int left = x * window->stride[1] - window->padding[1];
            int x0 = left < 0 ? 0 : left, x1 = left + kw > width ? width : left + kw;
            float max = -__builtin_inff(), sum = 0;
            for (int i = y0; i < y1; i++) {
                const float *row = from + (int64_t)i * width;
                if (kind == POOL_MAX)
                    for (int j = x0; j < x1; j++)
                        max = row[j] > max || row[j] != row[j] ? row[j] : max;
                else
                    for (int j = x0; j < x1; j++) sum += row[j];
            }
            *to++ = kind == POOL_MAX ? max : sum * share;
        }
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
        zero(to, size);
    else if (!started)
        memcpy(to, first, (size_t)size * sizeof *to);
}

static void activate_plane(const float *from, float *to, int64_t size, int kind) {
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) store(to + i, activate(load(from + i), kind));
    if (i < size)
        store_some(to + i, activate(load_some(from + i, (int)(size - i)), kind), (int)(size - i));
}

/* from null is a plane of zeros. */
static void affine_plane(
    const float *from, float *to, int64_t size, float scale, float shift, int kind
) {
    if (!from) {
        constant_plane(to, activate_one(shift, kind), size);
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
            zero(to, size);
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
        zero(to, (int64_t)out->height * out->width);
        return;
    }
    const float *from = ftwt_plane(plan, step->source[0], sample, source);
    const int down = step->window.stride[0], across = step->window.stride[1];
    if (down == 1 && across == 1) {
        copy_strided(to, from, out->height * out->width, 1);
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
        if (step->activation) activate_plane(to, to, size, step->activation);
        return;
    case STEP_MULTIPLY: multiply_plane(plan, step, sample, channel, to, size); return;
    case STEP_PICK: pick_plane(plan, step, sample, step->index[channel] - 1, to); return;
    case STEP_CONCAT: {
        int s = 0, at = channel;
        while (at >= plan->program.value[step->source[s]].channels)
            at -= plan->program.value[step->source[s++]].channels;
        if (ftwt_live_in(plan, step->source[s], sample)->flag[at])
            copy_strided(to, ftwt_plane(plan, step->source[s], sample, at), (int)size, 1);
        else
            zero(to, size);
        return;
    }
    default: break;
    }
    const float *from = ftwt_plane(plan, step->source[0], sample, channel);
    const int live = ftwt_live_in(plan, step->source[0], sample)->flag[channel];
    const int64_t in_size = (int64_t)in->height * in->width;
    if (step->kind == STEP_ACTIVATE) {
        if (live)
            activate_plane(from, to, size, step->activation);
        else
            constant_plane(to, activate_one(0, step->activation), size);
    } else if (step->kind == STEP_AFFINE) {
        affine_plane(
            live ? from : 0, to, size, step->rows[channel], step->bias[channel], step->activation
        );
    } else if (!live) {
        zero(to, size);
    } else if (step->kind == STEP_MASK) {
        if (ftwt_live_of(plan, step->reads, sample)->flag[channel])
            copy_strided(to, from, (int)size, 1);
        else
            zero(to, size);
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
    const int64_t chunks = (plan->program.set[step->made].width + CHUNK - 1) / CHUNK;
    for (int64_t item = from; item < to; item++) {
        int sample = (int)(item / chunks), first = (int)(item % chunks) * CHUNK;
        const ftwt_live *made = ftwt_live_of(plan, step->made, sample);
        for (int j = first; j < made->count && j < first + CHUNK; j++)
            make_plane(plan, step, sample, made->list[j]);
    }
}
