/* Convolutions with up to four positions, where vectors of positions would be mostly empty.
 *
 * A vector holds SHARE consecutive weights for each of four positions instead. Those weights are
 * taps of one input, or with a 1x1 kernel a group of SHARE inputs, the dead among them as zeros.
 * They are loaded once and repeated by the load itself; the sums of SHARE lanes are added at the end.
 */
enum { POSITIONS = 4, SHARE = LANES / POSITIONS };

/* As TAPS weights of an input: units of SHARE, the last of which begins early. */
#define UNITS_OF(TAPS) (((TAPS) + SHARE - 1) / SHARE)

static int is_few(const ftwt_value *in, const ftwt_step *step, int taps) {
    return SHARE > 1 && step->groups == 1 && step->middle[0] * step->middle[1] <= POSITIONS &&
           (taps >= SHARE || (taps == 1 && in->channels % SHARE == 0));
}

static void arrange_few(ftwt_layout *layout) {
    const int units = UNITS_OF(layout->taps);
    layout->kind = LAYOUT_FEW;
    layout->vectors = 1;
    layout->plane = (int64_t)units * LANES;
    for (int u = 0; u < units; u++) {
        int last = layout->taps - SHARE;
        layout->shift[u] = layout->taps == 1 ? 0 : u * SHARE < last ? u * SHARE : last;
    }
}

INLINE vec repeat(const float *weights) {
#if LANES == 16 && defined(__AVX512F__)
    return (vec)_mm512_broadcast_f32x4(_mm_loadu_ps(weights));
#elif LANES == 8 && defined(__AVX__)
    return (vec)_mm256_broadcast_sd((const double *)weights);
#else
    vec all;
    for (int i = 0; i < LANES; i++) all[i] = weights[i % SHARE];
    return all;
#endif
}

/* The value of a plane under tap `tap` at output position `position`, zero outside. */
static float under(const ftwt_step *step, const ftwt_value *in, const float *plane, int position,
                   int tap) {
    const ftwt_window *w = &step->window;
    if (position >= step->middle[0] * step->middle[1]) return 0;
    int y = position / step->middle[1] * w->stride[0] - w->padding[0] +
            tap / w->kernel[1] * w->dilation[0];
    int x = position % step->middle[1] * w->stride[1] - w->padding[1] +
            tap % w->kernel[1] * w->dilation[1];
    if (y < 0 || y >= in->height || x < 0 || x >= in->width) return 0;
    return plane[(int64_t)y * in->width + x];
}

/* Inputs, or groups of them, of one sample: the `first` of its list and a few more. */
static void pack_few(ftwt_plan *plan, const ftwt_work *work, int sample, int first, int count) {
    const ftwt_step *step = work->step;
    const ftwt_layout *layout = work->layout;
    const ftwt_value *in = &plan->program.value[step->source[0]];
    const ftwt_live *live = ftwt_live_in(plan, step->source[0], sample);
    const ftwt_live *few = &work->few[sample];
    float *packed = work->packed + sample * plan->packed_sample;
    for (int j = first; j < few->count && j < first + count; j++) {
        float *to = packed + j * layout->plane;
        for (int64_t i = 0; i < layout->plane; i++) {
            int unit = (int)(i / LANES), position = (int)(i % LANES) / SHARE, k = (int)i % SHARE;
            int tap = layout->taps == 1 ? 0 : layout->shift[unit] + k;
            int channel = layout->taps == 1 ? few->list[j] * SHARE + k : few->list[j];
            /* Weights that an earlier unit had. */
            int again = layout->taps > 1 && tap < unit * SHARE;
            to[i] = again || !live->flag[channel]
                        ? 0
                        : under(step, in, ftwt_plane(plan, step->source[0], sample, channel),
                                position, tap);
        }
    }
}

/* UNITS 0 reads their number from the work. */
INLINE void micro_few(const micro_work *work, const int F, const int UNITS) {
    vec sum[MOST_FILTERS], odd[MOST_FILTERS];
    const int units = UNITS ? UNITS : UNITS_OF(work->taps);
    const int taps = work->taps == 1 ? SHARE : work->taps;
    const float *x = work->input;
#pragma GCC unroll 8
    for (int f = 0; f < F; f++) sum[f] = splat(0), odd[f] = splat(0);
    for (int i = 0; i < work->inputs; i++) {
        const int64_t at = (int64_t)work->channel[i] * taps;
        if (UNITS != 1) {
            const int64_t soon =
                (int64_t)work->channel[i + AHEAD < work->inputs ? i + AHEAD : i] * taps;
#pragma GCC unroll 8
            for (int f = 0; f < F; f++) __builtin_prefetch(work->weight[f] + soon);
        }
#pragma GCC unroll 5
        for (int u = 0; u < units; u++, x += LANES) {
            const vec in = load(x);
            const int64_t from = at + work->shift[u];
#pragma GCC unroll 8
            for (int f = 0; f < F; f++)
                if (u % 2)
                    odd[f] += in * repeat(work->weight[f] + from);
                else
                    sum[f] += in * repeat(work->weight[f] + from);
        }
    }
#pragma GCC unroll 8
    for (int f = 0; f < F; f++) store(work->result + f * LANES, sum[f] + odd[f]);
}

#define FEW(F) \
    static void few_##F##_any(const micro_work *work) { micro_few(work, F, 0); } \
    static void few_##F##_one(const micro_work *work) { micro_few(work, F, 1); } \
    static void few_##F##_nine(const micro_work *work) { micro_few(work, F, UNITS_OF(9)); }
FEW(1) FEW(2) FEW(3) FEW(4) FEW(5) FEW(6) FEW(7) FEW(8)
#define FEW_ROW(N) \
    {few_1_##N, few_2_##N, few_3_##N, few_4_##N, few_5_##N, few_6_##N, few_7_##N, few_8_##N}

static void make_few(
    micro_work *work, const ftwt_step *step, int filters, float *const *planes
) {
    static micro_kernel *const any[MOST_FILTERS] = FEW_ROW(any);
    static micro_kernel *const one[MOST_FILTERS] = FEW_ROW(one);
    static micro_kernel *const nine[MOST_FILTERS] = FEW_ROW(nine);
    float result[MOST_FILTERS * LANES] __attribute__((aligned(64)));
    const int positions = step->middle[0] * step->middle[1];
    work->result = result;
    if (UNITS_OF(work->taps) == 1)
        one[filters - 1](work);
    else if (work->taps == 9)
        nine[filters - 1](work);
    else
        any[filters - 1](work);
    for (int f = 0; f < filters; f++) {
        vec sums = splat(0);
        for (int p = 0; p < positions; p++) {
            float sum = work->bias[f];
            for (int k = 0; k < SHARE; k++) sum += result[f * LANES + p * SHARE + k];
            sums[p] = sum;
        }
        store_some(planes[f], activate(sums, step->activation), positions);
    }
}
