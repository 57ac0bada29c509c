/* Gates with a hidden layer, which are so small that one thread decides all of one: what several
 * would share takes less than their waiting for each other.
 *
 * The hidden layer's rows are of one output each, and are read from end to end, with the zeros of
 * dead inputs: a row for each live input would have as many floats as there are outputs, which are
 * few, and come from as far. */

/* Rows of hidden outputs that are added up at once. */
enum { HIDDEN_ROWS = 8 };

/* to[0..ROWS) = the ReLU of bias + the sum over `values` of x * row; all padded to whole vectors. */
INLINE void add_hidden(
    const int ROWS, const float *rows, int64_t stride, const float *bias, const float *x, float *to
) {
    vec sum[HIDDEN_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) sum[r] = splat(0);
    for (int64_t c = 0; c < stride; c += LANES) {
        const vec in = load(x + c);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) sum[r] += in * load(rows + r * stride + c);
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        const float all = bias[r] + sum_of(sum[r]);
        /* What is no number stays. */
        to[r] = all < 0 ? 0 : all;
    }
}

/* An item is a sample. */
static void gate_decide_hidden(
    ftwt_plan *plan, const ftwt_work *work, ftwt_scratch *scratch, int64_t from, int64_t to
) {
    const ftwt_step *step = work->step;
    const int outputs = plan->program.set[step->made].width;
    const int inputs = plan->program.set[step->reads].width, rank = step->rank;
    const int64_t stride = round_up(inputs, MOST_LANES), last_stride = round_up(outputs, MOST_LANES);
    float *x = scratch->vector, *hidden = x + plan->scratch_vector;
    float *logits = hidden + plan->scratch_vector;
    for (int sample = (int)from; sample < to; sample++) {
        const ftwt_live *live = ftwt_live_of(plan, step->reads, sample);
        normalize(step->normalize, work->pooled + (int64_t)sample * inputs, live, inputs, x);
        for (int64_t c = inputs; c < stride; c++) x[c] = 0;
        int r = 0;
        for (; r + HIDDEN_ROWS <= rank; r += HIDDEN_ROWS)
            add_hidden(HIDDEN_ROWS, step->weight + r * stride, stride, step->bias + r, x, hidden + r);
        for (; r < rank; r++)
            add_hidden(1, step->weight + r * stride, stride, step->bias + r, x, hidden + r);
        const ftwt_live all = {.list = plan->counting, .count = rank};
        add_rows(step->weight2, rank, last_stride, step->bias2, hidden, &all, logits, 0,
                 (int)last_stride);
        note_mask(plan, work, sample, 0, outputs, logits);
        ftwt_count(work->executed, sample, (int64_t)rank * (live->count + outputs));
    }
}
