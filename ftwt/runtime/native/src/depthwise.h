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

/* 3x3 as in LAYOUT_ROLLING: a vector is of one row, and each row is loaded once for all outputs that it
 * is a part of. */

/* Lanes of the vectors that a strip of columns loads from each row. */
typedef struct {
    lanes_inside left[2], middle[2], right;
} strip_lanes;

/* What the left, middle and right tap find in a row, for a strip that begins at its column `at`. */
INLINE void load_taps(const float *row, int at, const strip_lanes *in, const int STRIDE, vec *tap) {
    if (STRIDE == 1) {
        tap[0] = load_inside(row + at - 1, in->left[0]);
        tap[1] = load_inside(row + at, in->middle[0]);
        tap[2] = load_inside(row + at + 1, in->right);
        return;
    }
    const vec one = load_inside(row + at, in->middle[0]);
    const vec two = load_inside(row + at + LANES, in->middle[1]);
    tap[0] = every_second(load_inside(row + at - 1, in->left[0]),
                          load_inside(row + at - 1 + LANES, in->left[1]), 0);
    tap[1] = every_second(one, two, 0);
    tap[2] = every_second(one, two, 1);
}

INLINE vec add_taps(vec sum, const vec *tap, const vec *weight) {
    return sum + tap[0] * weight[0] + tap[1] * weight[1] + tap[2] * weight[2];
}

/* Rows `from` to `end` of the results. */
INLINE void roll_strips(
    const ftwt_value *in, const ftwt_value *out, const float *weight, float bias, int activation,
    const float *x, float *to, int from, int end, const int STRIDE
) {
    vec w[9], tap[3];
#pragma GCC unroll 9
    for (int t = 0; t < 9; t++) w[t] = splat(weight[t]);
    const int width = in->width, height = in->height;
    for (int first = 0; first < out->width; first += LANES) {
        const int at = first * STRIDE, left = out->width - first;
        const int count = left < LANES ? left : LANES;
        const strip_lanes lanes = {
            {inside_row(at - 1, width), inside_row(at - 1 + LANES, width)},
            {inside_row(at, width), inside_row(at + LANES, width)},
            inside_row(at + 1, width),
        };
        /* Sums of the output row that the row before was the last or the middle one of, and of the
         * next one. */
        vec sum = splat(bias), next = splat(bias);
        const float *row = x + (int64_t)from * STRIDE * width;
        float *result = to + (int64_t)from * out->width + first;
        if (from) {
            load_taps(row - width, at, &lanes, STRIDE, tap);
            sum = add_taps(sum, tap, w);
        }
        if (STRIDE == 1) {
            load_taps(row, at, &lanes, 1, tap);
            sum = add_taps(sum, tap, w + 3);
            next = add_taps(next, tap, w);
        }
        for (int y = from; y < end; y++, result += out->width) {
            if (STRIDE == 2) {
                load_taps(row, at, &lanes, 2, tap);
                sum = add_taps(sum, tap, w + 3);
            }
            row += width;
            vec after = splat(bias);
            if (y * STRIDE + 1 < height) {
                load_taps(row, at, &lanes, STRIDE, tap);
                sum = add_taps(sum, tap, w + 6);
                if (STRIDE == 1) {
                    next = add_taps(next, tap, w + 3);
                    after = add_taps(after, tap, w);
                } else
                    next = add_taps(next, tap, w);
            }
            if (STRIDE == 2) row += width;
            store_some(result, activate(sum, activation), count);
            sum = next;
            next = after;
        }
    }
}

#if LANES == 16 && defined(__AVX512F__)
/* A plane that is one vector, and so are its results: a tap is a permutation of it. */
INLINE vec permute_plane(
    const ftwt_layout *layout, const float *weight, float bias, int activation, const float *x,
    int size
) {
    const __m512 in = (__m512)load_some(x, size);
    vec even = splat(bias), odd = splat(0);
    for (int t = 0; t < layout->taps; t++) {
        const __m512i from = _mm512_loadu_si512(layout->from + t * LANES);
        const __mmask16 inside = _mm512_cmpge_epi32_mask(from, _mm512_setzero_si512());
        const vec tap = (vec)_mm512_maskz_permutexvar_ps(inside, from, in);
        if (t % 2)
            odd += tap * weight[t];
        else
            even += tap * weight[t];
    }
    return activate(even + odd, activation);
}
#endif

/* Where one of several bands of rows begins. */
static int band_of(const ftwt_step *step, int piece, int pieces) {
    return (int)((int64_t)step->middle[0] * piece / pieces);
}

/* One filter's plane from its input's, and what the next gate is to know of it; null is an input of
 * zeros. A layout that rolls over rows without pooling may be of `piece` of `pieces` bands of them. */
static void depthwise_filter(
    const ftwt_plan *plan, const ftwt_work *work, const ftwt_step *step, const ftwt_layout *layout,
    ftwt_scratch *scratch, int sample, int filter, const float *x, int piece, int pieces
) {
    const ftwt_value *in = &plan->program.value[step->source[0]];
    const ftwt_value *out = &plan->program.value[step->output];
    const int64_t middle = (int64_t)step->middle[0] * step->middle[1];
    const int first = band_of(step, piece, pieces), end = band_of(step, piece + 1, pieces);
    const int64_t begin = (int64_t)first * step->middle[1];
    const int64_t count = (int64_t)(end - first) * step->middle[1];
    const float *weight = step->weight + (int64_t)filter * step->row, bias = step->bias[filter];
    float *result = ftwt_plane(plan, step->output, sample, filter);
    float *plane = step->pool ? scratch->plane + plan->scratch_plane : result;
    if (!x)
        fill_run(plane + begin, activate_one(bias, step->activation), count);
    else if (layout->kind == LAYOUT_ROLLING) {
        const ftwt_value made = {.height = step->middle[0], .width = step->middle[1]};
        if (step->window.stride[0] == 1)
            roll_strips(in, &made, weight, bias, step->activation, x, plane, first, end, 1);
        else
            roll_strips(in, &made, weight, bias, step->activation, x, plane, first, end, 2);
#if LANES == 16 && defined(__AVX512F__)
    } else if (layout->kind == LAYOUT_TAPS && layout->vectors == 1) {
        const int size = in->height * in->width;
        const vec v = permute_plane(layout, weight, bias, step->activation, x, size);
        store_some(plane, v, (int)middle);
        if (!step->pool) {
            summarize_lanes(plan, work, work->gate, sample, filter, v, (int)middle);
            return;
        }
#endif
    } else {
        lay_out(layout, &step->window, x, in->height, in->width, scratch->plane);
        convolve_plane(layout, weight, bias, step->activation, scratch->plane, plane, middle);
    }
    if (step->pool)
        pool_plane(&step->pooling, step->pool, plane, step->middle[0], step->middle[1], result,
                   out->height, out->width);
    if (pieces > 1)
        summarize_piece(plan, work, sample, filter, piece, result + begin, count);
    else
        summarize(plan, work, work->gate, sample, filter, result);
}

/* An item is a few filters of a sample, in one band of rows. */
static void
depthwise(ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to) {
    const ftwt_step *step = work->step;
    const int many = plan->program.set[step->made].width / step->groups, pieces = work->pieces;
    for (int64_t item = from; item < to; item++) {
        const int64_t band = item / work->each;
        const int sample = (int)(band / pieces), piece = (int)(band % pieces);
        const int first = (int)(item % work->each) * CHUNK;
        const int rows = band_of(step, piece + 1, pieces) - band_of(step, piece, pieces);
        int ran = 0;
        const ftwt_live *made = ftwt_live_of(plan, step->made, sample);
        const ftwt_live *live = ftwt_live_in(plan, step->source[0], sample);
        for (int j = first; j < made->count && j < first + CHUNK; j++) {
            const int filter = made->list[j], channel = filter / many;
            const float *x = ftwt_plane(plan, step->source[0], sample, channel);
            const int runs = live->flag[channel];
            depthwise_filter(plan, work, step, work->layout, scratch, sample, filter,
                             runs ? x : 0, piece, pieces);
            ran += runs;
        }
        if (ran)
            ftwt_count(work->executed, sample,
                       (int64_t)ran * work->layout->taps * rows * step->middle[1]);
    }
}
