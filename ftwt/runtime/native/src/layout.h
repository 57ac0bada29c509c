/* Choosing a convolution's layout, and copying planes into it. */

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

static int vectors_of(int positions) {
    return (positions + LANES - 1) / LANES;
}

/* Results of positions in rows of `width`, of which the first `kept` of each row stay. */
static int place_results(ftwt_layout *layout, int width, int kept, int rows) {
    layout->valid = calloc((size_t)layout->vectors, sizeof *layout->valid);
    layout->place = calloc((size_t)layout->vectors, sizeof *layout->place);
    layout->order = calloc((size_t)layout->vectors, sizeof *layout->order);
    if (!layout->valid || !layout->place || !layout->order) return FTWT_MEMORY;
    int place = 0;
    for (int v = 0; v < layout->vectors; v++) {
        layout->place[v] = place;
        for (int lane = 0; lane < LANES; lane++) {
            int at = v * LANES + lane;
            if (at / width < rows && at % width < kept) {
                if (lane < 8)
                    layout->order[v] |= (uint64_t)lane << 8 * __builtin_popcount(layout->valid[v]);
                layout->valid[v] |= 1u << lane;
                place++;
            }
        }
    }
    return FTWT_OK;
}

static int tabulate_taps(ftwt_layout *layout, const ftwt_step *step, const ftwt_value *in) {
    if (!has_table(layout)) return FTWT_MEMORY;
    const int each = layout->vectors * LANES;
    for (int i = 0; i < layout->plane; i++)
        layout->from[i] = under(step, in, i % each, i / each);
    return FTWT_OK;
}

/* Whether vectors hold whole rows and there are kernels that leave lanes out of loads. */
static int has_masked_rows(int width) {
    return MASKED_VECTORS && width <= LANES && LANES % width == 0;
}

/* Leaves lanes at the sides out of loads of a 3x3 kernel's columns. */
static void mask_columns(ftwt_layout *layout, int width) {
    for (int lane = 0; lane < LANES; lane++)
        for (int x = 0; x < 3; x++) {
            int column = lane % width + x - 1;
            if (column >= 0 && column < width) layout->inside[x] |= 1u << lane;
        }
}

/* 3x3 over narrow planes: a vector holds whole rows, so lanes at the sides are left out of loads
 * instead of being followed by zeros. */
static int is_masked(const ftwt_value *in, const ftwt_window *w) {
    for (int axis = 0; axis < 2; axis++)
        if (w->kernel[axis] != 3 || w->stride[axis] != 1 || w->padding[axis] != 1 ||
            w->dilation[axis] != 1)
            return 0;
    return has_masked_rows(in->width) && in->width < LANES &&
           vectors_of(in->width * in->height) <= MASKED_VECTORS;
}

static void arrange_masked(ftwt_layout *layout, const ftwt_value *in) {
    layout->kind = LAYOUT_MASKED;
    layout->vectors = vectors_of(in->width * in->height);
    /* A vector of zeros before the plane and one after it; the plane itself is aligned. */
    layout->plane = (int64_t)(layout->vectors + 2) * LANES;
    for (int t = 0; t < 9; t++) layout->shift[t] = LANES + (t / 3 - 1) * in->width + t % 3 - 1;
    mask_columns(layout, in->width);
}

#include "winograd.h"

/* 3x3 with zeros around the plane, in steps of one or two: a single input's rows are read where they
 * are. */
static int is_rolling(const ftwt_window *w) {
    for (int axis = 0; axis < 2; axis++)
        if (w->kernel[axis] != 3 || w->padding[axis] != 1 || w->dilation[axis] != 1) return 0;
    return w->stride[0] == w->stride[1] && w->stride[0] <= 2;
}

/* Is any tap in this phase? 1x1 with stride 2 reads one phase of four. */
static int phase_used(const ftwt_window *w, int axis, int phase) {
    for (int k = 0; k < w->kernel[axis]; k++)
        if (k * w->dilation[axis] % w->stride[axis] == phase) return 1;
    return 0;
}

/* How many of the phases before this one have a tap. */
static int phases_before(const ftwt_window *w, int axis, int phase) {
    int used = 0;
    for (int one = 0; one < phase; one++) used += phase_used(w, axis, one);
    return used;
}

static int arrange(ftwt_layout *layout, const ftwt_program *program, const ftwt_step *step) {
    const ftwt_value *in = &program->value[step->source[0]];
    const ftwt_window *w = &step->window;
    const int depthwise = ftwt_is_depthwise(program, step);
    int rows = step->middle[0], columns = step->middle[1], size = in->height * in->width;
    layout->taps = w->kernel[0] * w->kernel[1];
    layout->reads = layout->taps;
    if (layout->taps > MOST_TAPS) return FTWT_PROGRAM;
    if (is_tall(step)) return arrange_tall(layout, in);
    if (is_few(in, step, layout->taps)) {
        arrange_few(layout);
        if (tabulate_few(layout, step, in)) return FTWT_MEMORY;
        return place_results(layout, columns, columns, rows);
    }
    int plain = layout->taps == 1 && w->stride[0] == 1 && w->stride[1] == 1 && !w->padding[0] &&
                !w->padding[1];
    /* The last vector reads past its plane; at a border that may be past the tensor. */
    if (plain && !depthwise && (in->place == PLACE_ARENA || size % LANES == 0)) {
        layout->kind = LAYOUT_PLAIN;
        layout->plane = size;
        layout->vectors = vectors_of(size);
        return place_results(layout, columns, columns, rows);
    }
    if (!depthwise && is_masked(in, w)) {
        arrange_masked(layout, in);
        return place_results(layout, columns, columns, rows);
    }
    if (depthwise && is_rolling(w) && size > TABLE_SIZE) {
        layout->kind = LAYOUT_ROLLING;
        return FTWT_OK;
    }
    int down = w->stride[0], across = w->stride[1];
    int reach = w->dilation[1] * (w->kernel[1] - 1);
    layout->kind = LAYOUT_PADDED;
    /* Phases without a tap take no room: the zeros that begin a phase end the one before it. */
    const int used_across = phases_before(w, 1, across);
    const int used = phases_before(w, 0, down) * used_across;
    layout->height = (in->height + 2 * w->padding[0] + down - 1) / down;
    /* Without strides the zeros left of a row serve as those right of the row before. */
    if (across == 1 && w->padding[1] <= reach)
        layout->width = in->width + w->padding[1];
    else
        layout->width = (in->width + 2 * w->padding[1] + across - 1) / across;
    int positions = (rows - 1) * layout->width + columns;
    const int fewer = vectors_of(rows * columns) < vectors_of(positions);
    /* A single input is laid out once for each filter: that must cost little. */
    if (depthwise ? size <= TABLE_SIZE : rows * columns <= 2 * LANES && fewer) {
        layout->kind = LAYOUT_TAPS;
        layout->vectors = vectors_of(rows * columns);
        for (int t = 0; t < layout->taps; t++) layout->shift[t] = t * layout->vectors * LANES;
        layout->plane = (int64_t)layout->taps * layout->vectors * LANES;
        if (tabulate_taps(layout, step, in)) return FTWT_MEMORY;
        return place_results(layout, columns, columns, rows);
    }
    layout->vectors = vectors_of(positions);
    int most = 0, phase = layout->height * layout->width;
    for (int t = 0; t < layout->taps; t++) {
        int y = t / w->kernel[1] * w->dilation[0], x = t % w->kernel[1] * w->dilation[1];
        int before = phases_before(w, 0, y % down) * used_across + phases_before(w, 1, x % across);
        layout->shift[t] = before * phase + y / down * layout->width + x / across;
        if (layout->shift[t] > most) most = layout->shift[t];
    }
    int64_t need = most + (int64_t)layout->vectors * LANES;
    int64_t all = (int64_t)used * phase;
    layout->plane = round_up(need > all ? need : all, MOST_LANES);
    return place_results(layout, layout->width, columns, rows);
}

static void copy_strided(float *to, const float *from, int count, int stride) {
    if (stride == 1) {
        copy_run(to, from, count);
    } else if (stride == 2) {
        int i = 0;
        for (; i + LANES <= count; i += LANES) store(to + i, load_even(from + 2 * i));
        for (; i < count; i++) to[i] = from[2 * i];
    } else {
        for (int i = 0; i < count; i++) to[i] = from[(int64_t)i * stride];
    }
}

/* Columns `first`, `first + stride`, ... of a row, `count` of them, zeros where there is no row. */
static void copy_row(float *to, const float *row, int width, int first, int count, int stride) {
#if LANES == 16 && defined(__AVX512F__)
    if (stride <= 2) {
        for (int i = 0; i < count; i += LANES) {
            const int at = first + i * stride;
            vec v = load_inside(row + at, inside_row(at, width));
            if (stride == 2) {
                const int next = at + LANES;
                v = every_second(v, load_inside(row + next, inside_row(next, width)), 0);
            }
            store_some(to + i, v, count - i < LANES ? count - i : LANES);
        }
        return;
    }
#endif
    int skip = first < 0 ? (-first + stride - 1) / stride : 0;
    int have = first < width ? (width - first + stride - 1) / stride : 0;
    if (skip > count) skip = count;
    if (have > count) have = count;
    if (have < skip) have = skip;
    for (int i = 0; i < skip; i++) to[i] = 0;
    copy_strided(to + skip, row + first + (int64_t)skip * stride, have - skip, stride);
    for (int i = have; i < count; i++) to[i] = 0;
}

/* Rows without strides: zeros before the first, between any two, and after the last. */
static void lay_out_rows(
    const ftwt_layout *layout, const ftwt_window *w, const float *plane, int height, int width,
    float *to
) {
    const int columns = layout->width, between = columns - width;
    float *next = to + (int64_t)w->padding[0] * columns + w->padding[1];
    fill_run(to, 0, next - to);
    for (int y = 0; y + 1 < height; y++, plane += width, next += columns) {
        copy_run(next, plane, width);
        /* What these zeros cover of the next row is written after them. */
        if (between <= LANES && width >= LANES)
            store(next + width, splat(0));
        else
            fill_run(next + width, 0, between);
    }
    copy_run(next, plane, width);
    fill_run(next + width, 0, to + layout->plane - next - width);
}

/* `plane` of height x width into the layout. */
static void lay_out(
    const ftwt_layout *layout, const ftwt_window *w, const float *plane, int height, int width,
    float *to
) {
    const int rows = layout->height, columns = layout->width, sets = w->stride[0] * w->stride[1];
    if (layout->from) {
        pack_table(layout, plane, height * width, to);
        return;
    }
    if (layout->kind == LAYOUT_TALL) {
        const tall_rows rows = whole_tall(layout, width);
        pack_tall(layout, &rows, plane, height, width, to);
        return;
    }
    if (layout->kind == LAYOUT_MASKED) {
        const int size = height * width;
        fill_run(to, 0, LANES);
        copy_run(to + LANES, plane, size);
        fill_run(to + LANES + size, 0, layout->plane - LANES - size);
        return;
    }
    if (sets == 1) {
        lay_out_rows(layout, w, plane, height, width, to);
        return;
    }
    float *next = to;
    for (int set = 0; set < sets; set++) {
        const int down = set / w->stride[1], across = set % w->stride[1];
        if (!phase_used(w, 0, down) || !phase_used(w, 1, across)) continue;
        for (int y = 0; y < rows; y++, next += columns) {
            int from = y * w->stride[0] + down - w->padding[0];
            if (from < 0 || from >= height)
                fill_run(next, 0, columns);
            else
                copy_row(
                    next, plane + (int64_t)from * width, width, across - w->padding[1], columns,
                    w->stride[1]
                );
        }
    }
    fill_run(next, 0, to + layout->plane - next);
}

/* Some of a sample's live inputs, the `first` of its list and those that follow. */
static void pack_inputs(
    ftwt_plan *plan, const ftwt_work *work, int sample, int first, int count, float *packed
) {
    const ftwt_step *step = work->step;
    const ftwt_value *in = &plan->program.value[step->source[0]];
    const ftwt_live *live = ftwt_live_in(plan, step->source[0], sample);
    if (work->layout->kind == LAYOUT_FEW) {
        pack_few(plan, work, sample, first, count, packed);
        return;
    }
    for (int j = first; j < live->count && j < first + count; j++)
        lay_out(
            work->layout, &step->window,
            ftwt_plane(plan, step->source[0], sample, live->list[j]), in->height, in->width,
            packed + j * work->layout->plane
        );
}

static void
pack(ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to) {
    (void)scratch;
    for (int64_t item = from; item < to; item++) {
        int sample = (int)(item / work->each), first = (int)(item % work->each) * PACK_CHANNELS;
        pack_inputs(plan, work, sample, first, PACK_CHANNELS,
                    work->packed + sample * plan->packed_sample);
    }
}
