/* 3x3 convolution with a half of the multiplications: Winograd's F(4, 3) along columns.
 *
 * A tile is four rows of outputs, which read six rows of inputs. Instead of the 4 x 3 products of
 * rows of inputs and rows of a kernel, six combinations of rows of inputs (`pack_tall`) meet six
 * combinations of a kernel's rows (made beforehand: see `tall` in winograd.py), and the sums over
 * inputs are combined to four rows (`combine`). Along rows nothing changes: each combination is a
 * plane of its own, over which a kernel of three taps goes. So all of this works on whole vectors
 * of columns, and no float changes its lane.
 *
 * Points are 0, 1, -1, 2, -2 and infinity: A. Lavin and S. Gray, Fast Algorithms for Convolutional
 * Neural Networks (2016).
 */

enum { POINTS = 6, TALL = 4 };

static int is_tall(const ftwt_step *step) {
    const ftwt_window *w = &step->window;
    for (int axis = 0; axis < 2; axis++)
        if (w->kernel[axis] != 3 || w->stride[axis] != 1 || w->padding[axis] != 1 ||
            w->dilation[axis] != 1)
            return 0;
    return step->weight2 != 0 && step->groups == 1;
}

/* Some rows of tiles, as they are laid out by themselves. */
typedef struct {
    int32_t first, tiles, vectors;
    int64_t point, plane; /* floats from point to point, and from input to input */
} tall_rows;

static tall_rows measure_tall(const ftwt_layout *layout, int width, int first, int tiles) {
    const int masked = layout->inside[1] != 0;
    const int positions = (tiles - 1) * layout->width + width;
    tall_rows rows = {.first = first, .tiles = tiles, .vectors = vectors_of(positions)};
    const int64_t read = (int64_t)rows.vectors * LANES;
    /* The last row may be written as a whole vector. */
    const int64_t written = layout->shift[1] + positions - width + round_up(width, LANES);
    rows.point = masked ? read : round_up(written > read + 2 ? written : read + 2, LANES);
    rows.plane = round_up(POINTS * rows.point + (masked ? 2 * LANES : 0), MOST_LANES);
    /* Planes that begin a multiple of half a way apart push each other out of the first cache. */
    if (rows.plane % 512 == 0) rows.plane += MOST_LANES;
    return rows;
}

static tall_rows whole_tall(const ftwt_layout *layout, int width) {
    return measure_tall(layout, width, 0, layout->height);
}

/* `place` has for each vector how many outputs come before it: a position makes a column of up to
 * four. */
static int arrange_tall(ftwt_layout *layout, const ftwt_value *in) {
    const int masked = has_masked_rows(in->width);
    layout->kind = LAYOUT_TALL;
    layout->reads = POINTS * 3;
    /* Between rows is one zero, unless lanes at the sides are left out of loads. */
    layout->width = masked ? in->width : in->width + 1;
    layout->height = (in->height + TALL - 1) / TALL;
    for (int t = 0; t < 3; t++) layout->shift[t] = (masked ? LANES : 1) + t - 1;
    if (masked) mask_columns(layout, in->width);
    const tall_rows rows = whole_tall(layout, in->width);
    layout->vectors = rows.vectors;
    layout->plane = rows.plane;
    layout->place = calloc((size_t)layout->vectors, sizeof *layout->place);
    if (!layout->place) return FTWT_MEMORY;
    for (int q = 0, outputs = 0; q < layout->height * layout->width; q++) {
        const int below = in->height - q / layout->width * TALL;
        if (q % LANES == 0 && q / LANES < layout->vectors) layout->place[q / LANES] = outputs;
        if (q % layout->width < in->width) outputs += below < TALL ? below : TALL;
    }
    return FTWT_OK;
}

/* Six rows of inputs into one row of each point. */
INLINE void transform_rows(const vec *row, vec *point) {
    const vec even = row[4] - 4 * row[2], odd = row[3] - 4 * row[1];
    const vec near = row[4] - row[2], apart = 2 * (row[3] - row[1]);
    point[0] = 4 * row[0] - 5 * row[2] + row[4];
    point[1] = even + odd;
    point[2] = even - odd;
    point[3] = near + apart;
    point[4] = near - apart;
    point[5] = 4 * row[1] - 5 * row[3] + row[5];
}

/* Some rows of tiles of an input's plane into their points. */
static void pack_tall(
    const ftwt_layout *layout, const tall_rows *rows, const float *plane, int height, int width,
    float *to
) {
    const int masked = layout->inside[1] != 0, lead = layout->shift[1], whole = width >= LANES;
    const int64_t next = rows->point;
    if (!masked)
        for (int i = 0; i < POINTS; i++) to[i * next] = 0;
    for (int tile = 0; tile < rows->tiles; tile++) {
        float *begin = to + lead + (int64_t)tile * layout->width;
        const int top = (rows->first + tile) * TALL - 1;
        for (int x = 0; x < width; x += LANES) {
            /* The last vector begins early. */
            const int at = whole && x + LANES > width ? width - LANES : x;
            vec row[POINTS], point[POINTS];
#pragma GCC unroll 6
            for (int i = 0; i < POINTS; i++) {
                const float *from = plane + (int64_t)(top + i) * width + at;
                if (top + i < 0 || top + i >= height)
                    row[i] = splat(0);
                else
                    row[i] = whole ? load(from) : load_some(from, width);
            }
            transform_rows(row, point);
#pragma GCC unroll 6
            for (int i = 0; i < POINTS; i++)
                if (whole || !masked)
                    store(begin + i * next + at, point[i]);
                else
                    store_some(begin + i * next + at, point[i], width);
        }
        if (!masked)
            for (int i = 0; i < POINTS; i++) begin[i * next + width] = 0;
    }
    const int64_t end = lead + (int64_t)rows->tiles * layout->width;
    if (!masked && end < next)
        for (int i = 0; i < POINTS; i++) fill_run(to + i * next + end, 0, next - end);
}

/* Sums of six points into four rows. */
INLINE void combine(const vec *point, vec bias, const int activation, vec *row) {
    const vec one = point[1] + point[2], two = point[3] + point[4];
    const vec less = point[1] - point[2], fewer = point[3] - point[4];
    row[0] = activate(point[0] + one + two + bias, activation);
    row[1] = activate(less + 2 * fewer + bias, activation);
    row[2] = activate(one + 4 * two + bias, activation);
    row[3] = activate(less + 8 * fewer + point[5] + bias, activation);
}

/* What is added to planes as they are made, before an activation. */
typedef struct {
    const float *plane[MOST_FILTERS]; /* null for one of zeros */
    int32_t activation;
} tall_sum;

/* Positions from..from + vectors * LANES of four rows, one after the other, into plane `f` of some,
 * or into its sum with another. */
static void place_rows(
    const ftwt_layout *layout, const tall_rows *rows, const float *four, int from, int vectors,
    float *plane, const tall_sum *sum, int f, int height, int width
) {
    const int to = from + vectors * LANES;
    for (int tile = from / layout->width; tile < rows->tiles; tile++) {
        const int begin = tile * layout->width, top = (rows->first + tile) * TALL;
        if (begin >= to) return;
        const int left = from > begin ? from - begin : 0;
        const int right = to - begin < width ? to - begin : width;
        for (int i = 0; left < right && i < TALL && top + i < height; i++) {
            const int64_t at = (int64_t)(top + i) * width + left;
            const float *row = four + i * vectors * LANES + begin + left - from;
            if (!sum)
                copy_run(plane + at, row, right - left);
            else if (sum->plane[f])
                add_run(row, sum->plane[f] + at, plane + at, right - left, sum->activation);
            else
                activate_run(row, plane + at, right - left, sum->activation);
        }
    }
}

INLINE void combine_panel(
    const ftwt_layout *layout, const tall_rows *rows, const int activation, const float *sums,
    const float *bias, int filters, int first, int vectors, float *const *planes,
    const tall_sum *sum, int height, int width
) {
    const int each = filters * vectors * LANES;
    float four[MOST_FILTERS * TALL * MOST_VECTORS * LANES] __attribute__((aligned(64)));
    const int rows_of = TALL * vectors * LANES;
    for (int f = 0; f < filters; f++) {
        const vec more = splat(bias[f]);
        for (int p = 0; p < vectors; p++) {
            vec point[POINTS], row[TALL];
#pragma GCC unroll 6
            for (int i = 0; i < POINTS; i++)
                point[i] = load(sums + i * each + (f * vectors + p) * LANES);
            combine(point, more, activation, row);
#pragma GCC unroll 4
            for (int i = 0; i < TALL; i++)
                store(four + f * rows_of + (i * vectors + p) * LANES, row[i]);
        }
    }
    /* Only now, as loads that meet parts of several stores wait until these are done. */
    for (int f = 0; f < filters; f++)
        place_rows(layout, rows, four + f * rows_of, first * LANES, vectors, planes[f], sum, f,
                   height, width);
}

/* Panels from..to of some filters, with `sum` unless it is null. Weights of a filter are (points,
 * inputs, 3). */
static void make_tall(
    const ftwt_layout *layout, const tall_rows *rows, int panel, const ftwt_step *step,
    const micro_work *work, int inputs, int filters, int from, int to, float *const *planes,
    const tall_sum *sum
) {
    float sums[POINTS * MOST_FILTERS * MOST_VECTORS * LANES] __attribute__((aligned(64)));
    micro_work one = *work;
    one.taps = 3;
    for (int f = 0; f < filters; f++) one.bias[f] = 0;
    for (int first = from * panel; first < to * panel && first < rows->vectors; first += panel) {
        const int rest = rows->vectors - first, vectors = rest < panel ? rest : panel;
        for (int i = 0; i < POINTS; i++) {
            one.input = work->input + i * rows->point + first * LANES;
            one.result = sums + i * filters * vectors * LANES;
            for (int f = 0; f < filters; f++)
                one.weight[f] = work->weight[f] + (int64_t)i * inputs * 3;
            run_micro(&one, filters, vectors);
        }
#define COMBINE(KIND) \
    combine_panel(layout, rows, KIND, sums, work->bias, filters, first, vectors, planes, sum, \
                  step->middle[0], step->middle[1])
        switch (step->activation) {
        case ACT_NONE: COMBINE(ACT_NONE); break;
        case ACT_RELU: COMBINE(ACT_RELU); break;
        default: COMBINE(step->activation);
        }
#undef COMBINE
    }
}
